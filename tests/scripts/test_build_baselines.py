"""Baselines: the merged model scores as the adapter does, and is rebuilt only when it must be."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import probe
from tiny_training import CLOZE

from isogloss.config import FinetuneConfig
from isogloss.inference.predict import predict
from isogloss.models.adapters import attach
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.registry.lookup import adapter_folder
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from scripts.build_baselines import RECIPE, build


def scores(folder: Path, adapter: str | None = None) -> list[list[float]]:
    model = load(locate(str(folder)), "float32")
    digest = None
    if adapter:
        with adapter_folder(adapter) as weights:
            digest = attach(model, weights)
    with model.using(digest):
        predictions = predict(model, probe("heb_Hebr", "test", 3), CLOZE, "probe")
    return [prediction.choice_logprobs for prediction in predictions]


def test_a_baseline_is_the_model_with_its_adapter_merged(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    base = FinetuneConfig.model_validate(
        {"model": str(model_folder("gemma3")), "dtype": "float32", "batch_size": 2, "limit": 6,
         "dev_limit": 4, "rank": 2, "learning_rate": 1e-2}
    )  # fmt: skip
    untuned, tuned = build(tmp_path, base, (0, 3))
    assert scores(untuned) == [pytest.approx(row) for row in scores(model_folder("gemma3"))]
    run = finetune(base.model_copy(update={"steps": 3}), Session.of(base))
    expected = scores(model_folder("gemma3"), run.info.run_id)
    assert scores(tuned) == [pytest.approx(row, abs=1e-3) for row in expected]
    assert scores(tuned) != scores(untuned)
    recipe = json.loads((tuned / RECIPE).read_text())
    assert (recipe["steps"], recipe["base"]) == (3, str(model_folder("gemma3")))

    written = (tuned / "model.safetensors").stat().st_mtime_ns
    build(tmp_path, base, (0, 3))
    assert (tuned / "model.safetensors").stat().st_mtime_ns == written
    (tuned / RECIPE).write_text("{}")
    build(tmp_path, base, (3,))
    assert (tuned / "model.safetensors").stat().st_mtime_ns != written
