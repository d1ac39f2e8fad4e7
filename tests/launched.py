"""What the processes of test_processes do, started by `accelerate launch`: the first one leads.

It writes what came out as JSON to the file that it is given, the model's folder being the other
argument.
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
from isogloss.inference.predict import predict
from isogloss.models.adapters import WEIGHTS, attach
from isogloss.models.language_model import LanguageModel
from isogloss.models.locate import file_sha256
from isogloss.predictions.table import Prediction
from isogloss.prompts.protocol import Protocol
from isogloss.stages.session import Session
from isogloss.tasks import Item, items, open_task
from isogloss.training.batches import training_rows
from isogloss.training.loop import TrainingJob, train
from isogloss.training.recipe import Recipe
from isogloss.types import Split

# A passage has two questions: three passages a step, two for one process and one for the other.
RECIPE = Recipe(steps=5, batch_size=5, learning_rate=5e-3, rank=2, alpha=4, eval_every=2)
CLOZE = Protocol("cloze")
PROTOCOLS = {
    "cloze": CLOZE,
    "letter": Protocol("letter"),
    "generate": Protocol("generate", max_new_tokens=8),
    "cot": Protocol("letter", reasoning="cot", max_new_tokens=12),
}


class CutError(Exception):
    """Stands for an interruption in the midst of training."""


def probe(language: str, split: Split, limit: int) -> list[Item]:
    return items(open_task("probe", None), language, split, limit)


def trained(
    model: LanguageModel, folder: Path, recipe: Recipe = RECIPE, cut: int | None = None
) -> tuple[list[float], list[list[float]]]:
    """Losses by step and dev measurements; fails while step `cut` is logged."""
    losses, dev = [], []

    def log(step: int, metrics: dict[str, float]) -> None:
        if "train/loss" not in metrics:
            dev.append([metrics["dev/accuracy"], metrics["dev/gold_logprob"]])
            return
        if step == cut:
            raise CutError
        losses.append(metrics["train/loss"])

    job = TrainingJob(
        "probe", probe("arb_Arab", "train", 16), probe("arb_Arab", "dev", 7), CLOZE, recipe, folder,
        checkpoint_every=2,
    )  # fmt: skip
    train(model, job, log=log)
    return losses, dev


def answers(model: LanguageModel, protocol: Protocol, done: list[int]) -> list[Prediction]:
    asked = probe("heb_Hebr", "test", 9) + probe("eng_Latn", "test", 2)
    return predict(model, asked, protocol, "probe", progress=done.append)


def everything(model: LanguageModel, folder: Path) -> dict[str, Any]:
    """Training and answers, of the base model and of the adapter that came out."""
    losses, dev = trained(model, folder / "work")
    # One passage a step: one of two processes has nothing to do.
    alone, _ = trained(model, folder / "alone", replace(RECIPE, batch_size=1, steps=2))
    found: dict[str, Any] = {"losses": losses + alone, "dev": dev, "answers": {}, "done": []}
    digest = attach(model, folder / "work" / "last")
    for name, protocol in PROTOCOLS.items():
        for adapter in (None, digest, None):
            done: list[int] = []
            with model.using(adapter):
                made = answers(model, protocol, done)
            kept = found["answers"].setdefault(f"{name} {adapter is not None}", [])
            kept.append([[one.item_id, one.prediction, one.choice_logprobs] for one in made])
            found["done"].append(sum(done))
    processes.run_on_all(calculate_in, model, torch.bfloat16)
    made = answers(model, PROTOCOLS["letter"], [])
    processes.run_on_all(calculate_in, model, torch.float32)
    found["bfloat16"] = [one.gold_logprob for one in made]
    return found


def calculate_in(model: LanguageModel, dtype: torch.dtype) -> None:
    model.dtype = dtype


def failures(model: LanguageModel, folder: Path) -> dict[str, Any]:
    """Errors of each kind, after which the processes go on."""
    found: dict[str, Any] = {}
    dropping = replace(RECIPE, dropout=0.3)
    trained(model, folder / "whole", dropping)
    try:
        trained(model, folder / "cut", dropping, cut=4)
    except CutError:
        trained(model, folder / "cut", dropping)
    found["weights"] = [file_sha256(folder / name / "last" / WEIGHTS) for name in ("whole", "cut")]
    for name, function in (("user", out_of_memory), ("other", mistaken)):
        try:
            processes.run_on_all(function, model)
        except (IsoglossError, RuntimeError) as error:
            found[name] = [type(error).__name__, str(error)]
    try:
        trained(model, folder / "wild", replace(RECIPE, learning_rate=1e36, steps=30))
    except TrainingError as error:
        found["wild"] = str(error)
    return found


def out_of_memory(model: LanguageModel) -> None:
    if processes.rank() == 1:
        raise TrainingError("out of memory here.")
    processes.all_gather(0)


def mistaken(model: LanguageModel) -> None:
    training_rows(model, [], CLOZE)
    if processes.rank() == 1:
        raise KeyError("no such thing")


def weights_here(model: LanguageModel) -> float:
    """The fraction of the base model's weights that this process holds."""
    weights = list(model.network.parameters())
    if hasattr(weights[0], "ds_tensor"):  # DeepSpeed's
        local = [one.ds_tensor for one in weights]
        return sum(one.numel() for one in local) / sum(one.ds_numel for one in weights)
    local = [one.to_local() if isinstance(one, DTensor) else one for one in weights]
    return sum(one.numel() for one in local) / sum(one.numel() for one in weights)


def main() -> None:
    folder, result = Path(sys.argv[1]), Path(sys.argv[2])
    model = Session(str(folder), "float32").model
    found = everything(model, result.parent) | failures(model, result.parent)
    found["count"] = processes.count()
    found["weights_here"] = weights_here(model)
    result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    processes.run_on_leader(main)
