"""isogloss: scoring, training, generation, and the cost of scoring as a study grows."""

# ruff: noqa: E402 - threads are limited before torch is imported, as the program does
import tempfile
from pathlib import Path
from typing import Any

from isogloss.threads import limit_threads

limit_threads()

import torch

from benchmarks.contenders.generated import completes, digests
from benchmarks.contenders.job import Moment, Stopwatch, main, peak_mb, read, step_times
from isogloss.inference.generation import generate
from isogloss.inference.predict import predict
from isogloss.models.adapters import attach
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.predictions.table import Prediction
from isogloss.prompts.protocol import Protocol
from isogloss.tasks import items, open_task
from isogloss.training.loop import TrainingJob, train
from isogloss.training.recipe import Recipe
from isogloss.types import Format, Split


def score(job: dict[str, Any], model: LanguageModel) -> dict[str, Any]:
    """All of `predict`: prompts, tokenisation and scores, from items in memory."""
    task = open_task("belebele", job["folder"])
    chosen = items(task, "eng_Latn", Split.ALL, None)
    watch = Stopwatch()
    with watch:
        predictions = predict(model, chosen, Protocol(format=Format(job["case"])), "belebele")
    return {
        **watch.spent,
        "peak_mb": peak_mb(),
        "items": len(chosen),
        "answers": {prediction.item_id: prediction.forced for prediction in predictions},
    }


def train_steps(job: dict[str, Any], model: LanguageModel) -> dict[str, Any]:
    """All steps but the first, each timed from the end of the previous one."""
    task = open_task(job["case"], job["folder"])
    protocol = Protocol(format=task.format, normalisation=task.normalisation)
    train_items = items(task, "arb_Arab", Split.TRAIN, None)
    recipe = Recipe(steps=job["steps"], batch_size=job["batch_size"], eval_every=job["steps"])
    ends: list[Moment] = []
    losses: list[float] = []
    peaks: list[float] = []

    def log(step: int, metrics: dict[str, float]) -> None:
        if "train/loss" in metrics:
            ends.append(Moment.now())
            losses.append(metrics["train/loss"])
            peaks.append(peak_mb())

    with tempfile.TemporaryDirectory() as folder:
        dev_items = items(task, "arb_Arab", Split.DEV, 1)
        training = TrainingJob(task.name, train_items, dev_items, protocol, recipe, Path(folder))
        train(model, training, log=log)
    return {**step_times(ends), "peak_mb": peaks[-1], "losses": losses}


def write(job: dict[str, Any], model: LanguageModel) -> dict[str, Any]:
    """`generate` on all prompts; each row stops once its answer is complete."""
    rows = read(job["prompts"])
    watch = Stopwatch()
    with watch:
        written = generate(
            model, [row["context"] for row in rows], job["max_new_tokens"], completes(rows)
        )
    peak = peak_mb()
    texts = [generated.text for generated in written]
    tokens = sum(map(len, model.tokenizer(texts, add_special_tokens=False).input_ids))
    return {
        **watch.spent,
        "peak_mb": peak,
        "items": len(rows),
        "texts": digests(texts),
        "kept_tokens": tokens,
        "written_tokens": tokens,
    }


def line(job: dict[str, Any], model: LanguageModel) -> dict[str, Any]:
    """Scoring at one point of a line: more items, languages, adapters or longer passages."""
    task = open_task("belebele", job["folder"])
    value = job["value"]
    letter = Protocol(format=Format.LETTER)
    limit = value if job["case"] == "items" else None
    codes = job["languages"][:value] if job["case"] == "languages" else ["eng_Latn"]
    adapters = [Path(job["adapters"]) / str(number) for number in range(value)]
    predictions: list[Prediction] = []
    read_items = {code: items(task, code, Split.ALL, limit) for code in codes}
    watch = Stopwatch()
    with watch:
        if job["case"] == "adapters":
            for folder in adapters:
                with model.using(attach(model, folder)):
                    predictions += predict(model, read_items["eng_Latn"], letter, "belebele")
        else:
            for code in codes:
                predictions += predict(model, read_items[code], letter, "belebele")
    peak = peak_mb()
    prompt_tokens = sum(prediction.prompt_tokens for prediction in predictions) / len(predictions)
    return {
        **watch.spent,
        "peak_mb": peak,
        "items": len(predictions),
        "prompt_tokens": prompt_tokens,
    }


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """The job's part; the model is loaded before the clock starts."""
    model = load(locate("embedded"), job["dtype"])
    parts = {"scoring": score, "training": train_steps, "generation": write, "lines": line}
    result = parts[job["part"]](job, model)
    return {**result, "threads": torch.get_num_threads(), "dtype": str(model.dtype)}


if __name__ == "__main__":
    main(measure)
