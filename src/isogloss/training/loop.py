"""Training: LoRA on the source language, loss on answer tokens only.

The loss of a step is that of transformers' Trainer on the same items with all but the answer
masked: the mean negative log-likelihood over the answer tokens of the step.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from isogloss.distributed import processes
from isogloss.errors import ConfigError, TrainingError
from isogloss.files import whole_folder
from isogloss.inference.predict import predict
from isogloss.logs import progress_bar
from isogloss.models.adapters import detach, save_adapter
from isogloss.models.forward import can_share, finish_passes, hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import logits
from isogloss.models.lora import fuse, lora_config
from isogloss.models.memory import out_of_memory, training_token_budget
from isogloss.models.prefix_tree import TokenTree
from isogloss.predictions.table import Prediction, frame
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import Prompt, prompt
from isogloss.prompts.tokenisation import encode
from isogloss.tasks import Item
from isogloss.training.checkpoints import State
from isogloss.training.contamination import record

MAX_GRADIENT_NORM = 1.0
WARMUP = 0.1
DEV = "dev_predictions.parquet"


@dataclass(frozen=True)
class Recipe:
    """What decides the weights of an adapter, besides model, data and format."""

    steps: int = 40
    batch_size: int = 16
    learning_rate: float = 5e-4
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str = "all-linear"
    seed: int = 0
    eval_every: int = 20
    patience: int | None = None

    def describe(self, n_items: int) -> str:
        """In words, what replicates that differ only in their seed have in common."""
        early = ""
        if self.patience is not None:
            early = f", stopped after {self.patience} dev measurements of {self.eval_every} steps"
            early += " without a better one"
        return (
            f"{self.steps} steps of {self.batch_size} of {n_items} items, "
            f"learning rate {self.learning_rate:g}, rank {self.rank}, alpha {self.alpha}, "
            f"dropout {self.dropout:g}, {self.target_modules}{early}"
        )


class Measured(NamedTuple):
    """The adapter on dev data: accuracy (a fraction) and mean gold log-probability (nats).

    A larger one is better: by accuracy, and where that is the same by log-probability.
    """

    accuracy: float
    gold_logprob: float


@dataclass(frozen=True)
class Trained:
    """What training has left in its folder: adapters `last` and `best`, each with the answers to
    the dev items beside it. `best` is `last` if no earlier one was better.
    """

    last: Path
    best: Path
    last_step: int
    best_step: int
    dev: Measured
    best_dev: Measured


class _Row(NamedTuple):
    tree: TokenTree
    targets: list[tuple[int, int]]  # node before, answer token
    items: int


def recipe_lora(model: LanguageModel, recipe: Recipe) -> Any:
    """What peft is told of a recipe's LoRA; takes adapters out of the model.

    ConfigError for modules that the model does not have.
    """
    detach(model)
    return lora_config(
        model.network, recipe.target_modules, recipe.rank, recipe.alpha, recipe.dropout
    )


def train(
    model: LanguageModel,
    train_items: Sequence[Item],
    dev_items: Sequence[Item],
    protocol: Protocol,
    recipe: Recipe,
    folder: Path,
    *,
    task: str,
    description: str = "finetune",
    log: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    measured: Callable[[int, list[Prediction]], None] = lambda step, predictions: None,
    checkpoint_every: int | None = None,
    gradient_checkpointing: bool = False,
) -> Trained:
    """Train a new adapter on `train_items` into `folder`: see `Trained` (safetensors, peft's
    layout, with the record of what it was trained on).

    `log(step, metrics)` receives `train/loss` (nats a token) and `train/learning_rate` each step,
    and `dev/accuracy` and `dev/gold_logprob` before the first step, every `eval_every` steps and
    after the last, when `measured` gets the answers to the dev items too. The adapter is taken out
    of the model again, which ends as it began.

    With `checkpoint_every`, all that decides the further steps is kept in `folder` at that interval
    of steps, and training goes on from there if it finds any: on a CPU to the same weights, bit for
    bit. With `recipe.patience` it stops when that many measurements have brought nothing better.
    `gradient_checkpointing` keeps the inputs of each layer alone and computes the rest anew on the
    way back: less memory, more time, the same weights.
    Raises TrainingError if a loss is no number or memory runs out. Several processes share the
    items of each step and of dev; but for rounding, and for what dropout draws, the adapter does
    not depend on their number.
    """
    return processes.run_on_all(
        _train, model, train_items, dev_items, protocol, recipe, folder, task, checkpoint_every,
        gradient_checkpointing, description=description, log=log, measured=measured,
    )  # fmt: skip


def _train(
    model: LanguageModel,
    train_items: Sequence[Item],
    dev_items: Sequence[Item],
    protocol: Protocol,
    recipe: Recipe,
    folder: Path,
    task: str,
    checkpoint_every: int | None,
    gradient_checkpointing: bool,
    description: str = "finetune",
    log: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    measured: Callable[[int, list[Prediction]], None] = lambda step, predictions: None,
) -> Trained:
    from peft import get_peft_model
    from transformers import get_linear_schedule_with_warmup

    if model.offloaded:
        raise ConfigError(
            "device_map 'auto' has left layers in CPU memory or on disk, where they cannot be "
            "trained; expected more GPU memory, or dtype nf4."
        )
    if processes.is_leader():
        folder.mkdir(parents=True, exist_ok=True)
    config = recipe_lora(model, recipe)
    share = can_share(model)  # tried without an adapter, whose dropout would use random numbers
    torch.manual_seed(recipe.seed)
    try:
        peft_model = get_peft_model(model.network, config)
    except ValueError as error:  # a module that peft has no LoRA for
        raise ConfigError(str(error).strip().splitlines()[0]) from error
    fuse(model.network, "default")
    steps = None
    step = 0
    try:
        weights = [weight for weight in peft_model.parameters() if weight.requires_grad]
        processes.broadcast_weights(weights)
        optimizer = torch.optim.AdamW(
            weights, lr=recipe.learning_rate, weight_decay=0.0, fused=True
        )
        schedule = get_linear_schedule_with_warmup(
            optimizer, int(WARMUP * recipe.steps), recipe.steps
        )
        state = State(weights, optimizer, schedule)
        dev: dict[int, Measured] = {}
        if checkpoint_every and (kept := state.load(folder)):
            step = int(kept["step"])
            dev = {int(at): Measured(*values) for at, values in kept["dev"].items()}
        if gradient_checkpointing:
            model.network.activation_checkpointing_enable({"use_reentrant": False})
        rows = _rows(model, train_items, protocol, share)
        batches = islice(_steps(rows, recipe), step, None)
        budget = training_token_budget(model, gradient_checkpointing)
        steps = progress_bar(None, description, "step", total=recipe.steps, initial=step)

        def save(name: str, predictions: list[Prediction]) -> None:
            if not processes.is_leader():
                return
            with whole_folder(folder / name) as part:
                save_adapter(peft_model, part, model.location)
                how = recipe.describe(len(train_items))
                record(task, train_items, recipe.seed, how).write(part)
                frame(predictions).to_parquet(part / DEV, index=False)

        def measure() -> None:
            peft_model.eval()
            predictions = predict(model, dev_items, protocol, task)
            dev[step] = Measured(
                float(np.mean([prediction.correct for prediction in predictions])),
                float(np.mean([prediction.gold_logprob for prediction in predictions])),
            )
            log(step, {f"dev/{name}": value for name, value in dev[step]._asdict().items()})
            if math.isnan(dev[step].gold_logprob):
                raise TrainingError(f"the adapter gives no numbers after step {step}.")
            if step == recipe.steps or _over(dev, recipe):
                save("last", predictions)
            elif step > 0 and _best(dev) == step:
                save("best", predictions)
            measured(step, predictions)

        if not dev:
            measure()
        while step < recipe.steps and not _over(dev, recipe):
            peft_model.train()
            processes.seed_step(recipe.seed, step)
            loss = processes.sum_gradients(
                _accumulate_gradients(model, next(batches), budget), weights
            )
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of step {step + 1} is {loss} at learning rate "
                    f"{schedule.get_last_lr()[0]:.2g}; a lower learning_rate may help."
                )
            torch.nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM)
            rate = schedule.get_last_lr()[0]
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            shown = f"loss {loss:.3f}, dev accuracy {dev[max(dev)].accuracy:.2f}"
            steps.set_postfix_str(shown, refresh=False)
            steps.update()
            log(step, {"train/loss": loss, "train/learning_rate": rate})
            if step % recipe.eval_every == 0 or step == recipe.steps:
                measure()
            over = step == recipe.steps or _over(dev, recipe)
            due = checkpoint_every and (step % checkpoint_every == 0 or over)
            if due and processes.is_leader():
                state.save(folder, step=step, dev=dev)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory in step {step + 1}, with batches of {recipe.batch_size} items and rank "
            f"{recipe.rank} ({str(error).strip().splitlines()[0][:200]})."
        ) from error
    finally:
        if steps is not None:
            steps.close()
        if gradient_checkpointing:
            model.network.activation_checkpointing_disable()
        peft_model.eval()
        peft_model.unload()
    best = _best(dev)
    return Trained(
        folder / "last",
        folder / ("last" if best == step else "best"),
        step,
        best,
        dev[step],
        dev[best],
    )


def _best(dev: Mapping[int, Measured]) -> int:
    """The step of the best measurement after the start, the first one of equals."""
    return max((step for step in dev if step > 0), key=lambda step: (dev[step], -step))


def _over(dev: Mapping[int, Measured], recipe: Recipe) -> bool:
    """Whether patience is at its end: that many measurements after the best one."""
    if recipe.patience is None or max(dev) == 0:
        return False
    return sum(step > _best(dev) for step in dev) >= recipe.patience


def _rows(
    model: LanguageModel, items: Sequence[Item], protocol: Protocol, share: bool
) -> list[_Row]:
    """One row a passage (a question, if the model cannot share), in the order of the items."""
    prompts = [prompt(item, protocol, model.tokenizer) for item in items]
    gold = [
        Prompt(entry.context, (entry.continuations[item.answer],))
        for entry, item in zip(prompts, items, strict=True)
    ]
    encoded = encode(model.tokenizer, gold, chat=protocol.chat)
    rows = []
    for _, members in groupby(
        range(len(items)), lambda index: items[index].passage_id if share else index
    ):
        row = _Row(TokenTree(), [], len(indices := list(members)))
        for index in indices:
            (sequence,), (start,) = encoded[index]
            path = row.tree.insert(sequence[:-1])
            row.targets.extend(zip(path[start - 1 :], sequence[start:], strict=True))
        rows.append(row)
    return rows


def _steps(rows: Sequence[_Row], recipe: Recipe) -> Iterator[list[_Row]]:
    """Batches of `batch_size` items (whole passages), reshuffled every epoch by the seed."""
    order = random.Random(f"order-{recipe.seed}")
    queue: list[_Row] = []
    for _ in range(recipe.steps):
        batch: list[_Row] = []
        while not batch or sum(row.items for row in batch) < recipe.batch_size:
            if not queue:
                queue = list(rows)
                order.shuffle(queue)
            batch.append(queue.pop())
        yield batch


def _accumulate_gradients(model: LanguageModel, batch: Sequence[_Row], budget: int) -> float:
    """Add the gradients of a step's loss, in parts of `budget` tokens; return the loss.

    Of several processes each does its share of the rows: their sums are those of the step.
    """
    answer_tokens = sum(len(row.targets) for row in batch)
    total = 0.0
    for part in _parts(processes.split_work(batch, lambda row: len(row.tree)), budget):
        wanted = [[node for node, _ in row.targets] for row in part]
        tokens_N = torch.tensor([token for row in part for _, token in row.targets])
        with ExitStack() as passes:
            states_ND = hidden_states(model, [row.tree for row in part], wanted, contexts=passes)
            logits_NV = logits(model, states_ND)
            loss = torch.nn.functional.cross_entropy(
                logits_NV.float(), tokens_N.to(logits_NV.device), reduction="sum"
            )
            loss = loss / answer_tokens
            torch.autograd.backward(loss)
            total += loss.item()
    finish_passes(model, backward=True)
    return total


def _parts(rows: Sequence[_Row], budget: int) -> Iterator[list[_Row]]:
    """Rows of like length together, up to `budget` tokens."""
    part: list[_Row] = []
    for row in sorted(rows, key=lambda row: len(row.tree), reverse=True):
        if part and sum(len(one.tree) for one in part) + len(row.tree) > budget:
            yield part
            part = []
        part.append(row)
    if part:
        yield part
