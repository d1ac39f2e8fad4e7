"""Unfinished work: on disk, gone on with, sent once."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.errors import TrackingError
from isogloss.inference import predict as predict_module
from isogloss.stages import evaluate as evaluation
from isogloss.stages.evaluate import evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.tracking import resume as unfinished
from isogloss.tracking.resume import (
    METRICS,
    MetricLog,
    claim,
    few_retries,
    read_metrics,
    unfinished_dir,
)
from isogloss.tracking.runs import read_predictions
from isogloss.training import loop as training


@pytest.fixture
def run_id() -> str:
    run: mlflow.ActiveRun
    with mlflow.start_run() as run:
        return str(run.info.run_id)


def points(run_id: str, name: str) -> list[tuple[int, float]]:
    history = mlflow.MlflowClient().get_metric_history(run_id, name)
    return [(point.step, point.value) for point in history]


def test_metrics_are_on_disk_at_once_and_in_mlflow_at_the_end(run_id: str, tmp_path: Path) -> None:
    with MetricLog(tmp_path, lambda: run_id) as metrics:
        metrics.log(1, {"train/loss": 2.5, "train/learning_rate": 0.1})
        assert [metric.value for metric in read_metrics(tmp_path)] == [2.5, 0.1]
        metrics.log(2, {"train/loss": 1.5})
    assert points(run_id, "train/loss") == [(1, 2.5), (2, 1.5)]


def test_a_step_that_is_done_again_is_not_logged_again(run_id: str, tmp_path: Path) -> None:
    for _ in range(2):
        with MetricLog(tmp_path, lambda: run_id) as metrics:
            for step in (1, 2, 3):
                metrics.log(step, {"train/loss": float(step)})
    assert points(run_id, "train/loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert len(read_metrics(tmp_path)) == 3


def test_a_line_that_was_cut_off_in_the_midst_is_written_anew(run_id: str, tmp_path: Path) -> None:
    with MetricLog(tmp_path, lambda: run_id) as metrics:
        metrics.log(1, {"a": 1.0})
        metrics.log(2, {"a": 2.0})
    whole = (tmp_path / METRICS).read_bytes()
    (tmp_path / METRICS).write_bytes(whole[:-9])
    with MetricLog(tmp_path, lambda: run_id) as metrics:
        metrics.log(2, {"a": 2.0})
        metrics.log(3, {"a": 3.0})
    assert [(metric.step, metric.value) for metric in read_metrics(tmp_path)] == [
        (1, 1.0), (2, 2.0), (3, 3.0),
    ]  # fmt: skip


def test_what_mlflow_does_not_take_is_kept_named_and_sent_when_it_does(
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_batch = mlflow.MlflowClient.log_batch
    gone = [True]

    def away(self: mlflow.MlflowClient, *given: object, **more: object) -> None:
        if gone[0]:
            raise MlflowException("connection refused")
        log_batch(self, *given, **more)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", away)
    monkeypatch.setattr(unfinished, "SILENCE", 0.05)
    monkeypatch.setenv("ISOGLOSS_PATIENCE", "0.3")

    def log_a_hundred() -> None:
        with MetricLog(tmp_path, lambda: run_id) as metrics:
            started = time.monotonic()
            for step in range(100):
                metrics.log(step, {"a": float(step)})
                time.sleep(0.002)
            assert time.monotonic() - started < 2  # it does not wait

    with pytest.raises(TrackingError, match=r"connection refused.*same command, run again"):
        log_a_hundred()
    assert "does not take metrics; they are kept in" in caplog.text
    gone[0] = False
    monkeypatch.setenv("ISOGLOSS_PATIENCE", "30")
    with MetricLog(tmp_path, lambda: run_id):
        pass
    assert points(run_id, "a") == [(step, float(step)) for step in range(100)]


def test_few_retries_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    with few_retries():
        assert os.environ[name] == "0"
    assert name not in os.environ
    monkeypatch.setenv(name, "3")
    with few_retries():
        pass
    assert os.environ[name] == "3"


def hold(folder: str, held: "multiprocessing.Queue[str]") -> None:
    import os

    os.chdir(folder)
    with claim("finetune", "f" * 64):
        held.put("held")
        time.sleep(1.0)
        (unfinished_dir() / f"finetune-{'f' * 12}" / "mark").touch()


@pytest.mark.real
def test_a_second_process_waits_for_the_first_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = multiprocessing.get_context("spawn")
    held: multiprocessing.Queue[str] = context.Queue()
    other = context.Process(target=hold, args=(str(tmp_path), held))
    other.start()
    assert held.get(timeout=60) == "held"
    with claim("finetune", "f" * 64) as work:
        assert (work.folder / "mark").exists()
        work.done()
    other.join()
    assert "another process is at finetune-ffffffffffff; waiting" in caplog.text
    assert not work.folder.exists()


def tuned(folder: Path, **changes: object) -> FinetuneConfig:
    settings = {
        "model": str(folder), "dtype": "float32", "steps": 6, "batch_size": 2, "limit": 6,
        "dev_limit": 4, "rank": 2, "checkpoint_every": 2, "eval_every": 3,
    }  # fmt: skip
    return FinetuneConfig(**{**settings, **changes})


def test_finetune_that_failed_goes_on_in_its_run_and_in_a_new_one_where_that_is_unknown(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tuned(model_folder("gemma3"))
    session = Session(config.model, config.dtype)
    accumulate = training._accumulate_gradients
    done: list[int] = []

    def counted(*given: object) -> float:
        done.append(1)
        if len(done) == 4:
            raise OSError("the machine is going down")
        return accumulate(*given)

    monkeypatch.setattr(training, "_accumulate_gradients", counted)
    with pytest.raises(OSError, match="going down"):
        finetune(config, session)
    (failed,) = mlflow.search_runs(output_format="list")
    assert failed.info.status == "FAILED"
    run = finetune(config, session)
    assert len(done) == 4 + 4  # step 3, which no checkpoint has, to step 6
    assert run.info.run_id == failed.info.run_id
    assert run.info.status == "FINISHED"
    assert [step for step, _ in points(run.info.run_id, "train/loss")] == [1, 2, 3, 4, 5, 6]
    assert not (unfinished_dir() / ".locks").parent.joinpath("finetune").exists()
    # Another store does not know the run, and gets everything.
    done.clear()
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(OSError, match="going down"):
        finetune(other, session)
    (tmp_path / "elsewhere").mkdir()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/elsewhere/mlflow.db")
    moved = finetune(other, session)
    assert [step for step, _ in points(moved.info.run_id, "train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [path.name for path in unfinished_dir().iterdir()] == [".locks"]


def test_finetune_that_could_not_upload_uploads_without_training_again(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tuned(model_folder("gemma3"))
    session = Session(config.model, config.dtype)

    def away(*_: object, **__: object) -> str:
        raise MlflowException("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr("isogloss.stages.finetune.log_adapter", away)
        with pytest.raises(TrackingError, match=r"connection refused.*unfinished/finetune-\w{12}"):
            finetune(config, session)
    monkeypatch.setattr(training, "_accumulate_gradients", away)  # it must not be needed
    monkeypatch.setattr(training, "predict", away)
    run = finetune(config, session)
    assert run.info.status == "FINISHED"
    assert run.data.tags["isogloss.adapter_uri"].startswith("models:/m-")


def test_evaluate_that_could_not_upload_or_was_cut_off_asks_no_language_again(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EvaluateConfig(
        model=str(model_folder("gemma3")), dtype="float32", limit=3,
        languages="arb_Arab,heb_Hebr,eng_Latn",
    )  # fmt: skip
    session = Session(config.model, config.dtype)
    whole = evaluate(config, session)
    expected = read_predictions(whole.info.run_id)
    mlflow.MlflowClient().delete_run(whole.info.run_id)
    asked: list[str] = []

    def some(*given: object, **more: object) -> object:
        asked.append(given[1][0].language)
        if asked == ["arb_Arab", "heb_Hebr"]:
            raise OSError("the machine is going down")
        return predict_module.predict(*given, **more)

    def away(*_: object) -> None:
        raise MlflowException("connection refused")

    monkeypatch.setattr(evaluation, "predict", some)
    with pytest.raises(OSError, match="going down"):
        evaluate(config, session)
    with monkeypatch.context() as patch:
        patch.setattr("isogloss.tracking.runs.log_predictions", away)
        with pytest.raises(TrackingError, match="unfinished/evaluate-"):
            evaluate(config, session)
    found = evaluate(config, session)
    assert asked == ["arb_Arab", "heb_Hebr", "heb_Hebr", "eng_Latn"]
    (run,) = mlflow.search_runs(output_format="list")
    assert (run.info.run_id, run.info.status) == (found.info.run_id, "FINISHED")
    pd.testing.assert_frame_equal(read_predictions(found.info.run_id), expected)
    assert [path.name for path in unfinished_dir().iterdir()] == [".locks"]
