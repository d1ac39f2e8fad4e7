"""A finished run is reused only while its artifacts are there, whole and those that it logged."""

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import pandas as pd
import pytest
from logged_runs import log_run, log_runs
from mlflow.entities import Run
from synthetic_predictions import BASE, TUNED, gains, tables

from isogloss.config import CompareConfig, EvaluateConfig, FinetuneConfig
from isogloss.errors import ComparisonError, ModelError
from isogloss.registry.lookup import adapter_folder
from isogloss.registry.register import register
from isogloss.stages.collect_runs import collect_runs, read_tables
from isogloss.stages.compare import run_compare
from isogloss.stages.evaluate import evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.tracking import read_predictions

pytestmark = pytest.mark.usefixtures("no_figures")


def artifacts(run: Run) -> Path:
    return Path(urlparse(run.info.artifact_uri).path)


def delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def replace_table(path: Path) -> None:
    table = pd.read_parquet(path)
    table.iloc[:-1].to_parquet(path, index=False)


DAMAGES = [delete, cut, replace_table]
Damage = Callable[[Path], None]


@pytest.fixture
def evaluate_once(model_folder: Callable[[str], Path]) -> Callable[[], Run]:
    def once() -> Run:
        config = EvaluateConfig(
            model=str(model_folder("llama")), dtype="float32", languages="heb_Hebr", limit=2
        )
        return evaluate(config, Session.of(config))

    return once


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_evaluation_without_its_predictions_is_computed_again(
    evaluate_once: Callable[[], Run], damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    first = evaluate_once()
    expected = read_predictions(first.info.run_id)
    assert evaluate_once().info.run_id == first.info.run_id
    damage(artifacts(first) / "predictions.parquet")
    second = evaluate_once()
    assert second.info.run_id != first.info.run_id
    pd.testing.assert_frame_equal(read_predictions(second.info.run_id), expected)
    assert f"run {first.info.run_id} is not reused: its artifact predictions.parquet" in caplog.text
    assert evaluate_once().info.run_id == second.info.run_id


def test_an_evaluation_whose_folder_is_gone_is_computed_again(
    evaluate_once: Callable[[], Run],
) -> None:
    first = evaluate_once()
    delete(artifacts(first))
    assert evaluate_once().info.run_id != first.info.run_id


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_comparison_names_the_run_whose_predictions_are_gone(damage: Damage) -> None:
    ids = log_runs(tables(gains(0.1, 0.05), n=20))
    damage(artifacts(mlflow.get_run(ids[TUNED])) / "predictions.parquet")
    with pytest.raises(ComparisonError, match=f"run '{ids[TUNED]}'.*repeat the command"):
        run_compare(CompareConfig())


def test_a_run_that_was_computed_again_stands_for_the_damaged_one() -> None:
    both = tables(gains(0.1, 0.05), n=20)
    old = log_run(BASE, both[BASE], fingerprint="f")
    new = log_run(BASE, both[BASE], fingerprint="f")
    log_run(TUNED, both[TUNED])
    delete(artifacts(mlflow.get_run(old)) / "predictions.parquet")
    collected = collect_runs(CompareConfig())
    assert [run.info.run_id for run in collected.by_key[BASE]] == [new]
    assert len(read_tables(collected)[BASE]) == len(both[BASE])


def test_a_comparison_without_a_file_of_its_report_is_made_again() -> None:
    name = "gains.csv"
    log_runs(tables(gains(0.1, 0.05), n=20))
    first = run_compare(CompareConfig())
    assert run_compare(CompareConfig()) == first
    delete(artifacts(mlflow.get_run(first)) / "report" / name)
    second = run_compare(CompareConfig())
    assert second != first
    assert (artifacts(mlflow.get_run(second)) / "report" / name).is_file()


def adapter_files(run: Run) -> Path:
    uri = run.data.tags["isogloss.adapter_uri"]
    location = mlflow.get_logged_model(uri.removeprefix("models:/")).artifact_location
    return Path(urlparse(location).path) / "artifacts" / "adapter"


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("adapter_model.safetensors", delete, "has no adapter_model.safetensors"),
        ("adapter_model.safetensors", cut, "is not the one that was logged"),
        ("adapter_config.json", delete, "has no adapter"),
        ("trained_on.json", delete, "its adapter has no trained_on.json"),
        ("dev_predictions.parquet", delete, "its adapter has no dev_predictions.parquet"),
        ("", delete, "cannot be fetched"),
    ],
)
def test_a_training_whose_adapter_is_gone_is_done_again(
    name: str,
    damage: Damage,
    problem: str,
    model_folder: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = FinetuneConfig(
        model=str(model_folder("llama")), dtype="float32", steps=1, batch_size=2, limit=4,
        dev_limit=2, rank=2, eval_every=1,
    )  # fmt: skip
    session = Session.of(config)
    first = finetune(config, session)
    files = adapter_files(first)
    damage(files / name if name else files)
    second = finetune(config, session)
    assert second.info.run_id != first.info.run_id
    assert second.data.tags["isogloss.adapter"] == first.data.tags["isogloss.adapter"]
    assert problem in caplog.text
    assert finetune(config, session).info.run_id == second.info.run_id
    if name.startswith("adapter_model"):
        with pytest.raises(ModelError, match=problem), adapter_folder(first.info.run_id):
            pass
        with pytest.raises(ModelError, match=problem):
            register(first.info.run_id, "name", None)
        assert mlflow.MlflowClient().search_model_versions("name = 'name'") == []
