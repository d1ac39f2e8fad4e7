"""Checkpoints: everything that decides the remaining steps of a training, in one file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from isogloss.distributed import processes
from isogloss.files import write_whole
from isogloss.training.early_stopping import DevScore, patience_exhausted
from isogloss.training.recipe import Recipe

CHECKPOINT = "checkpoint.safetensors"
Facts = dict[str, Any]  # JSON: param groups and schedule state have no type of their own


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
        tensors["random/cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random/cuda"] = torch.cuda.get_rng_state()
        facts: Facts = {
            "step": self.step,
            "dev": self.dev,
            "optimizer": optimizer["param_groups"],
            "schedule": self.schedule.state_dict(),
        }
        contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_whole(folder / CHECKPOINT, save(contiguous, {"facts": json.dumps(facts)}))

    def load(self, folder: Path) -> None:
        """Restore the checkpoint of the folder, if there is one; the leading process reads it."""
        own = _read(folder / CHECKPOINT) if processes.is_leader() else None
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
        self.step = int(facts["step"])
        self.dev = {int(step): DevScore(*score) for step, score in facts["dev"].items()}


def _read(path: Path) -> tuple[Facts, dict[str, torch.Tensor]] | None:
    """The JSON facts and the tensors of a checkpoint; None if there is no file."""
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["facts"]), tensors
