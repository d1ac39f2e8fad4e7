"""What the logged model of an adapter has: tags, card, metrics, and the best and last adapters."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run

from isogloss.registry.lookup import adapter_folder
from isogloss.training import loop
from isogloss.training.dev_predictions import DEV_PREDICTIONS

Train = Callable[..., Run]


def test_the_licence_comes_from_the_card_of_the_base(
    train: Train, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(model_folder("gemma3"), tmp_path / "base"))
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Base\n", encoding="utf-8")
    with adapter_folder(train(model=str(base)).info.run_id) as folder:
        card = (folder / "README.md").read_text("utf-8")
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    assert "| mit (the adapter is a derivative of it) |" in card


def test_the_best_and_the_last_adapter_are_logged_and_keep_decides_which_is_the_runs(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, calls = loop.predict, iter(range(100))

    def worse_at_each_call(*args: object) -> list[loop.Prediction]:
        logprob = -float(next(calls))
        return [
            replace(prediction, correct=False, gold_logprob=logprob)
            for prediction in predict(*args)
        ]

    monkeypatch.setattr(loop, "predict", worse_at_each_call)
    run = train(keep="best", steps=3, patience=2)
    tags = run.data.tags
    assert tags["isogloss.best_step"] == "1"
    assert tags["isogloss.adapter_uri"] == tags["isogloss.best_uri"] != tags["isogloss.last_uri"]
    models = {
        uri: mlflow.get_logged_model(tags[f"isogloss.{uri}"].removeprefix("models:/"))
        for uri in ("best_uri", "last_uri")
    }
    steps = {uri: model.tags["isogloss.step"] for uri, model in models.items()}
    assert steps == {"best_uri": "1", "last_uri": "3"}
    assert tags["isogloss.adapter"] == models["best_uri"].tags["isogloss.adapter"]
    logprobs = {
        uri: metric.value
        for uri, model in models.items()
        for metric in model.metrics
        if metric.key == "dev/gold_logprob"
    }
    assert logprobs["best_uri"] > logprobs["last_uri"]


def test_more_dev_items_make_another_run_with_the_same_adapter(train: Train) -> None:
    fewer, more = train(dev_limit=6), train(dev_limit=8)
    assert more.info.run_id != fewer.info.run_id
    assert more.data.tags["isogloss.adapter"] == fewer.data.tags["isogloss.adapter"]
    with adapter_folder(more.info.run_id) as folder:
        assert len(pd.read_parquet(folder / DEV_PREDICTIONS)) == 8
