"""The program that test_processes starts in two processes with `accelerate launch`.

Its arguments are the folder of a model and the file to which the leader writes results as JSON.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from isogloss.distributed import processes
from isogloss.errors import IsoglossError, TrainingError
from isogloss.files import file_sha256
from isogloss.inference.predict import predict
from isogloss.models.adapter_files import WEIGHTS
from isogloss.models.adapters import attach
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.table import Prediction
from isogloss.prompts.protocol import Protocol
from isogloss.stages.session import Session
from isogloss.tasks import Item, items, open_task
from isogloss.training.batches import training_rows
from isogloss.training.loop import TrainingJob, train
from isogloss.training.recipe import Recipe
from isogloss.types import Split

# A passage has two questions: three passages per step, two for one process, one for the other.
RECIPE = Recipe(steps=5, batch_size=5, learning_rate=5e-3, rank=2, alpha=4, eval_every=2)
CLOZE = Protocol("cloze")
PROTOCOLS = {
    "cloze": CLOZE,
    "letter": Protocol("letter"),
    "generate": Protocol("generate", max_new_tokens=8),
    "cot": Protocol("letter", reasoning="cot", max_new_tokens=12),
}


class InterruptionError(Exception):
    """An interruption in the middle of training."""


def probe(language: str, split: Split, limit: int) -> list[Item]:
    return items(open_task("probe", None), language, split, limit)


def train_probe(
    model: LanguageModel, folder: Path, recipe: Recipe = RECIPE, interrupt_at: int | None = None
) -> tuple[list[float], list[list[float]]]:
    """Train; return losses by step and dev measurements. Fails when `interrupt_at` is logged."""
    losses, dev = [], []

    def log(step: int, metrics: dict[str, float]) -> None:
        if "train/loss" not in metrics:
            dev.append([metrics["dev/accuracy"], metrics["dev/gold_logprob"]])
            return
        if step == interrupt_at:
            raise InterruptionError
        losses.append(metrics["train/loss"])

    job = TrainingJob(
        "probe", probe("arb_Arab", "train", 16), probe("arb_Arab", "dev", 7), CLOZE, recipe, folder,
        checkpoint_every=2,
    )  # fmt: skip
    train(model, job, log=log)
    return losses, dev


def predictions(model: LanguageModel, protocol: Protocol, done: list[int]) -> list[Prediction]:
    questions = probe("heb_Hebr", "test", 9) + probe("eng_Latn", "test", 2)
    return predict(model, questions, protocol, "probe", progress=done.append)


def train_and_predict(model: LanguageModel, folder: Path) -> dict[str, Any]:
    """Results of training, and predictions of the base model and of the trained adapter."""
    losses, dev = train_probe(model, folder / "work")
    # One passage per step: one of two processes has no work.
    more_losses, _ = train_probe(model, folder / "single", replace(RECIPE, batch_size=1, steps=2))
    results: dict[str, Any] = {
        "losses": losses + more_losses, "dev": dev, "answers": {}, "done": [],
    }  # fmt: skip
    digest = attach(model, folder / "work" / "last")
    for name, protocol in PROTOCOLS.items():
        for adapter in (None, digest, None):
            done: list[int] = []
            with model.using(adapter):
                rows = predictions(model, protocol, done)
            tables = results["answers"].setdefault(f"{name} {adapter is not None}", [])
            tables.append([[row.item_id, row.prediction, row.choice_logprobs] for row in rows])
            results["done"].append(sum(done))
    processes.run_on_all(set_dtype, model, torch.bfloat16)
    rows = predictions(model, PROTOCOLS["letter"], [])
    processes.run_on_all(set_dtype, model, torch.float32)
    results["bfloat16"] = [row.gold_logprob for row in rows]
    return results


def set_dtype(model: LanguageModel, dtype: torch.dtype) -> None:
    model.dtype = dtype


def fail(model: LanguageModel, folder: Path) -> dict[str, Any]:
    """Fail in several ways, continuing after each failure; return the errors."""
    results: dict[str, Any] = {}
    recipe = replace(RECIPE, dropout=0.3)
    train_probe(model, folder / "whole", recipe)
    try:
        train_probe(model, folder / "resumed", recipe, interrupt_at=4)
    except InterruptionError:
        train_probe(model, folder / "resumed", recipe)
    results["weights"] = [
        file_sha256(folder / name / "last" / WEIGHTS) for name in ("whole", "resumed")
    ]
    for name, function in (("user", run_out_of_memory), ("other", make_a_mistake)):
        try:
            processes.run_on_all(function, model)
        except (IsoglossError, RuntimeError) as error:
            results[name] = [type(error).__name__, str(error)]
    try:
        train_probe(model, folder / "diverging", replace(RECIPE, learning_rate=1e36, steps=30))
    except TrainingError as error:
        results["diverging"] = str(error)
    return results


def run_out_of_memory(model: LanguageModel) -> None:
    if processes.rank() == 1:
        raise TrainingError("out of memory here.")
    processes.all_gather(0)


def make_a_mistake(model: LanguageModel) -> None:
    training_rows(model, [], CLOZE)
    if processes.rank() == 1:
        raise KeyError("no such thing")


def held_fraction(model: LanguageModel) -> float:
    """The fraction of the base model's weights that this process holds."""
    weights = list(model.network.parameters())
    if hasattr(weights[0], "ds_tensor"):  # of DeepSpeed
        held = [weight.ds_tensor for weight in weights]
        return sum(map(torch.numel, held)) / sum(weight.ds_numel for weight in weights)
    held = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights]
    return sum(map(torch.numel, held)) / sum(map(torch.numel, weights))


def main() -> None:
    folder, file = Path(sys.argv[1]), Path(sys.argv[2])
    model = Session(str(folder), "float32").model
    results = train_and_predict(model, file.parent) | fail(model, file.parent)
    results["count"] = processes.count()
    results["held_fraction"] = held_fraction(model)
    file.write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    processes.run_on_leader(main)
