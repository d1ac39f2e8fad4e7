"""Training speed and losses, beside transformers' Trainer on the same items in the same order."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from peft import get_peft_model
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from benchmarks.flops import Work, least_seconds
from benchmarks.gpu_parts.measure import Deadline, OutOfTimeError, peak_gb, reset_peak, synchronise
from benchmarks.gpu_parts.models import counted
from benchmarks.gpu_parts.products import product_speed
from benchmarks.gpu_parts.work import Setting
from isogloss.models.language_model import LanguageModel
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import encode
from isogloss.tasks import Item
from isogloss.training.batches import plan_batches
from isogloss.training.loop import TrainingJob, recipe_lora_config, train
from isogloss.training.recipe import Recipe
from isogloss.types import Format

RECIPE = Recipe(steps=6, batch_size=32, learning_rate=2e-4, eval_every=1000)
QUICK = replace(RECIPE, steps=3, batch_size=4)
MICRO = (32, 16, 8, 4, 2)  # items per pass that Trainer tries, until memory is enough
DEV_ITEMS = 4
PROTOCOL = Protocol(Format.LETTER)


class _Group(NamedTuple):
    """The items of one passage."""

    members: list[Item]
    items: int


class _Answered(NamedTuple):
    """A prompt with its answer, as tokens."""

    tokens: tuple[int, ...]
    start: int
    passage: str


def measure(model: LanguageModel, setting: Setting, deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Steps of the recipe by isogloss and by Trainer: tokens per second, share, losses, memory."""
    recipe = QUICK if setting.quick else RECIPE
    items = _pairs(setting.items)
    steps = list(_steps(model, items, recipe))
    ours = _rates(setting, steps, *_isogloss(model, items, recipe, deadline))
    ours["peak_gb"] = peak_gb(model.device)
    yield {
        "recipe": {"steps": recipe.steps, "batch_size": recipe.batch_size, "rank": recipe.rank},
        "isogloss": ours,
    }
    reset_peak(model.device)
    theirs = _best_trainer(model, setting, steps, recipe, deadline)
    yield {"trainer": theirs}
    if "items_per_second" in theirs:
        losses = zip(ours["losses"], theirs["losses"], strict=False)
        yield {
            "times": ours["items_per_second"] / theirs["items_per_second"],
            "loss_differences": [abs(left - right) for left, right in losses],
        }


def _best_trainer(
    model: LanguageModel,
    setting: Setting,
    steps: Sequence[Sequence[_Answered]],
    recipe: Recipe,
    deadline: Deadline,
) -> dict[str, Any]:
    """Trainer's faster run of two, with as many items per pass as memory holds.

    The second run has seen the shapes of its batches. On an H200, fewer items were slower.
    """
    best: dict[str, Any] = {}
    rates: list[float] = []
    for micro in (size for size in MICRO if size <= recipe.batch_size):
        try:
            while len(rates) < (1 if setting.quick else 2) and (not rates or deadline.left > 0):
                seconds, losses = _trainer(model, steps, recipe, micro, deadline)
                run = _rates(setting, steps, seconds, losses)
                rates.append(run.get("items_per_second", 0.0))
                if rates[-1] == max(rates):
                    best = {**run, "items_per_pass": micro, "peak_gb": peak_gb(model.device)}
        except torch.OutOfMemoryError:
            reset_peak(model.device)
            continue
        break
    return {**best, "items_per_second_of_runs": rates}


def _pairs(items: Sequence[Item]) -> list[Item]:
    """Items of passages with two questions: every step then has the same number of items."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.passage_id, []).append(item)
    return [item for group in groups.values() if len(group) >= 2 for item in group[:2]]


def _steps(
    model: LanguageModel, items: Sequence[Item], recipe: Recipe
) -> Iterator[list[_Answered]]:
    """The items of each step with their answers, in the order in which isogloss takes them."""
    prompts = [prompt(item, PROTOCOL, model.tokenizer) for item in items]
    encoded = encode(model.tokenizer, prompts)
    by_id = {item.item_id: entry for item, entry in zip(items, encoded, strict=True)}
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.passage_id, []).append(item)
    for batch in plan_batches([_Group(group, len(group)) for group in groups.values()], recipe):
        yield [
            _Answered(
                by_id[item.item_id].sequences[item.answer],
                by_id[item.item_id].starts[item.answer],
                item.passage_id,
            )
            for group in batch
            for item in group.members
        ]


def _isogloss(
    model: LanguageModel, items: Sequence[Item], recipe: Recipe, deadline: Deadline
) -> tuple[list[float], list[float]]:
    """Seconds of each step but the first, and the losses."""
    ends: list[float] = []
    losses: list[float] = []

    def log(step: int, metrics: dict[str, float]) -> None:
        if "train/loss" in metrics:
            synchronise(model.device)
            ends.append(time.perf_counter())
            losses.append(metrics["train/loss"])
            deadline.check()

    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(
            "random", items, items[:DEV_ITEMS], PROTOCOL, recipe, Path(folder) / "adapter"
        )
        try:
            train(model, job, log=log)
        except OutOfTimeError:
            if len(ends) < 2:
                raise
    return _durations(ends), losses


def _durations(ends: Sequence[float]) -> list[float]:
    return [end - start for start, end in pairwise(ends)]


class _Stamps(TrainerCallback):
    """The times at which steps ended; stops the training at the deadline."""

    def __init__(self, device: torch.device, deadline: Deadline) -> None:
        self.ends: list[float] = []
        self.device, self.deadline = device, deadline

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        synchronise(self.device)
        self.ends.append(time.perf_counter())
        control.should_training_stop |= self.deadline.left <= 0


class _InOrder(Trainer):
    """Trainer without shuffling."""

    def _get_train_sampler(self, *arguments: Any) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(cast("list[Any]", self.train_dataset))


def _trainer(
    model: LanguageModel,
    steps: Sequence[Sequence[_Answered]],
    recipe: Recipe,
    micro: int,
    deadline: Deadline,
) -> tuple[list[float], list[float]]:
    """Seconds of each step but the first, and the losses, with `micro` items in a pass."""
    config = recipe_lora_config(model, recipe)
    torch.manual_seed(recipe.seed)
    adapter = get_peft_model(model.module, config)
    stamps = _Stamps(model.device, deadline)
    try:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                max_steps=recipe.steps,
                per_device_train_batch_size=micro,
                gradient_accumulation_steps=recipe.batch_size // micro,
                learning_rate=recipe.learning_rate,
                lr_scheduler_type="linear",
                warmup_steps=recipe.warmup_steps,
                weight_decay=0.0,
                max_grad_norm=1.0,
                bf16=True,
                use_cpu=model.device.type == "cpu",
                logging_steps=1,
                logging_first_step=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=recipe.seed,
            )
            rows = [row for step in steps for row in step]
            trainer = _InOrder(
                adapter,
                args=arguments,
                train_dataset=[_labelled(row) for row in rows],
                data_collator=_padded,
                callbacks=[stamps],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
    finally:
        adapter.eval()
        adapter.unload()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return _durations(stamps.ends), losses


def _labelled(row: _Answered) -> dict[str, list[int]]:
    labels = [-100] * row.start + list(row.tokens[row.start :])
    return {"input_ids": list(row.tokens), "labels": labels}


def _padded(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Rows padded on the right to the longest."""
    width = max(len(row["input_ids"]) for row in rows)

    def filled(values: Sequence[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([value + [filler] * (width - len(value)) for value in values])

    ids = [row["input_ids"] for row in rows]
    return {
        "input_ids": filled(ids, 0),
        "attention_mask": filled([[1] * len(row) for row in ids], 0),
        "labels": filled([row["labels"] for row in rows], -100),
    }


def _rates(
    setting: Setting,
    steps: Sequence[Sequence[_Answered]],
    seconds: Sequence[float],
    losses: Sequence[float],
) -> dict[str, Any]:
    """Rates of the steps after the first, of which the shared work counts for the share."""
    timed = steps[1 : len(seconds) + 1]
    took = sum(seconds)
    if not timed:
        return {"losses": list(losses)}
    tokens = sum(len(row.tokens) - 1 for step in timed for row in step)
    answers = sum(len(row.tokens) - row.start for step in timed for row in step)
    shared = 0
    for step in timed:
        trees: dict[str, TokenTree] = {}
        for row in step:
            trees.setdefault(row.passage, TokenTree()).insert(row.tokens[:-1])
        shared += sum(map(len, trees.values()))
    speed = product_speed(setting.name, setting.device).shapes

    def share(work: Work) -> float:
        return least_seconds(work, counted(setting.name), speed, lora_rank=RECIPE.rank) / took

    return {
        "step_seconds": list(seconds),
        "losses": list(losses),
        "items_per_second": sum(map(len, timed)) / took,
        "tokens_per_second": tokens / took,
        "shared_tokens_per_second": shared / took,
        "share": share(Work(shared, answers)),
        "share_as_separate": share(Work(tokens, answers)),
    }
