"""Checkpoints: everything that decides the remaining steps of a training, in one file."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from isogloss.distributed import processes
from isogloss.files import write_whole
from isogloss.training.early_stopping import DevScore, patience_exhausted
from isogloss.training.recipe import Recipe

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
# Bytes of a checkpoint that is written after a signal: a scheduler kills some seconds later, and
# the end of the run is to be written before.
LARGEST_AT_INTERRUPTION = 2**30
Facts = dict[str, Any]  # JSON: param groups and schedule state have no type of their own
Checkpoint = tuple[Facts, dict[str, torch.Tensor]]


class TrainingState:
    """A training in progress: LoRA weights, AdamW, schedule, steps done and dev scores by step.

    The random state of torch belongs to it too. The data order does not: it follows from seed and
    step.
    """

    def __init__(self, weights: Sequence[torch.Tensor], recipe: Recipe) -> None:
        from transformers import get_linear_schedule_with_warmup

        self.weights = weights
        self.recipe = recipe
        self.optimizer = torch.optim.AdamW(
            weights, lr=recipe.learning_rate, weight_decay=0.0, fused=True
        )
        self.schedule: torch.optim.lr_scheduler.LambdaLR = get_linear_schedule_with_warmup(
            self.optimizer, recipe.warmup_steps, recipe.steps
        )
        self.step = 0
        self.dev: dict[int, DevScore] = {}
        self.kept_step: int | None = None  # of the checkpoint that was saved or loaded last
        self.consistent = True  # false while a step changes weights, moments and schedule
        self._random: dict[str, torch.Tensor] = {}  # before the step that is being done

    @property
    def finished(self) -> bool:
        """Whether all steps are done or patience is exhausted."""
        return self.step == self.recipe.steps or patience_exhausted(self.dev, self.recipe.patience)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def save(self, folder: Path) -> None:
        """Write the checkpoint, in place of an earlier one; atomic."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"weight/{at}": weight.detach() for at, weight in enumerate(self.weights)}
        for at, state in optimizer["state"].items():
            tensors |= {f"optimizer/{at}/{name}": value for name, value in state.items()}
        tensors |= self._random or _random_state()
        facts: Facts = {
            "step": self.step,
            "dev": self.dev,
            "optimizer": optimizer["param_groups"],
            "schedule": self.schedule.state_dict(),
        }
        contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_whole(folder / CHECKPOINT, save(contiguous, {"facts": json.dumps(facts)}))
        self.kept_step = self.step

    def begin_step(self) -> None:
        """Keep the random state, which dropout changes while gradients are computed."""
        self._random = _random_state()

    def end_step(self) -> None:
        """Change the weights by the gradients that were computed."""
        self.consistent = False
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.step += 1
        self._random = {}
        self.consistent = True

    def save_interrupted(self, folder: Path) -> None:
        """Save the steps that an interruption leaves done, unless it broke off a change of state.

        A checkpoint that is large is not saved, and one that cannot be written is only logged.
        """
        bytes_ = 3 * sum(weight.nbytes for weight in self.weights)  # AdamW has two moments of each
        if not (self.consistent and self.dev) or bytes_ > LARGEST_AT_INTERRUPTION:
            return
        if self.step == self.kept_step:
            return
        try:
            self.save(folder)
        except OSError as error:
            logger.warning(f"the checkpoint of step {self.step} cannot be written: {error}")

    def load(
        self,
        folder: Path,
        complete: Callable[[Mapping[int, DevScore], int], bool] = lambda dev, step: True,
    ) -> None:
        """Restore the checkpoint of the folder, if there is one; the leading process reads it.

        A damaged one, or one of another training, is deleted, and a warning says so; so is one for
        whose dev scores and step the adapters beside it are not `complete`.
        """
        own = self._read(folder / CHECKPOINT, complete) if processes.is_leader() else None
        checkpoint = processes.broadcast(own)
        if checkpoint is None:
            return
        facts, tensors = checkpoint
        states: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer/"):
                _, number, key = name.split("/")
                states.setdefault(int(number), {})[key] = tensor
        with torch.no_grad():
            for at, weight in enumerate(self.weights):
                weight.copy_(tensors[f"weight/{at}"])
        self.optimizer.load_state_dict({"state": states, "param_groups": facts["optimizer"]})
        self.schedule.load_state_dict(facts["schedule"])
        torch.set_rng_state(tensors["random/cpu"])
        if "random/cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random/cuda"])
        self.step = self.kept_step = facts["step"]
        self.dev = facts["dev"]

    def _read(
        self, path: Path, complete: Callable[[Mapping[int, DevScore], int], bool]
    ) -> Checkpoint | None:
        """The facts and tensors of a checkpoint; None if there is none that can be restored."""
        if not path.is_file():
            return None
        try:
            checkpoint = _parsed(path)
            _require_fitting(*checkpoint, self.weights)
            if not complete(checkpoint[0]["dev"], checkpoint[0]["step"]):
                raise ValueError("the best adapter so far is not beside it")
        except (SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
            logger.warning(
                f"{path} is damaged and deleted, and the training begins anew "
                f"({type(error).__name__}: {error})"
            )
            path.unlink(missing_ok=True)
            return None
        return checkpoint


def _random_state() -> dict[str, torch.Tensor]:
    state = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["random/cuda"] = torch.cuda.get_rng_state()
    return state


def _parsed(path: Path) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["facts"])
    # What `load` takes, read here so that nothing fails after the first weight is copied.
    facts["dev"] = {int(step): DevScore(*map(float, score)) for step, score in facts["dev"].items()}
    facts["step"] = int(facts["step"])
    return facts, tensors


def _require_fitting(
    facts: Facts, tensors: Mapping[str, torch.Tensor], weights: Sequence[torch.Tensor]
) -> None:
    """Raise ValueError or LookupError for a checkpoint that does not fit these weights."""
    torch.Generator().set_state(tensors["random/cpu"])
    facts["schedule"]["last_epoch"], facts["optimizer"][0]["lr"]
    moments = ("exp_avg", "exp_avg_sq") if facts["step"] else ()
    for at, weight in enumerate(weights):
        for name in (f"weight/{at}", *(f"optimizer/{at}/{moment}" for moment in moments)):
            if tensors[name].shape != weight.shape:
                raise ValueError(f"{name} has the shape {tuple(tensors[name].shape)}")
    if f"weight/{len(weights)}" in tensors:
        raise ValueError(f"more than {len(weights)} weights")
