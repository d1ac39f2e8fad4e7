"""Interrupted work: its results are on disk, resumed in place and sent once."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from damage import DAMAGES
from mlflow.exceptions import MlflowException

from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.errors import ConfigError, TrackingError
from isogloss.inference import predict as predict_module
from isogloss.process_ids import machine, started_at, this_process
from isogloss.stages import evaluate as evaluate_stage
from isogloss.stages.evaluate import evaluate
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.tracking import RunKind, open_run, read_predictions, reuse_or_lock
from isogloss.tracking.experiments import choose_experiment
from isogloss.tracking.resume import (
    LOCKS,
    RUN_FILE,
    WorkDir,
    locked_work_dir,
    work_folder,
    work_root,
)
from isogloss.tracking.tags import prefixed
from isogloss.training import loop


def steps(run_id: str, metric: str) -> list[int]:
    return [point.step for point in mlflow.MlflowClient().get_metric_history(run_id, metric)]


def test_a_work_folder_remembers_its_run_until_it_is_deleted(tmp_path: Path) -> None:
    work = WorkDir(tmp_path / "work")
    work.folder.mkdir()
    assert work.run_id is None
    work.record_run("a" * 32)
    assert WorkDir(tmp_path / "work").run_id == "a" * 32
    work.delete()
    assert not work.folder.exists()
    work.delete()  # twice is no error


def test_an_empty_work_folder_is_removed_and_one_with_results_is_kept() -> None:
    with locked_work_dir(RunKind.EVALUATE, "a" * 64) as work:
        assert work.folder.is_dir()
    assert not work.folder.exists()
    with locked_work_dir(RunKind.EVALUATE, "a" * 64) as work:
        (work.folder / "results").touch()
    with locked_work_dir(RunKind.EVALUATE, "a" * 64) as again:
        assert (again.folder / "results").exists()


def test_a_root_that_cannot_be_written_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ISOGLOSS_UNFINISHED", str(tmp_path / "file"))
    with (
        pytest.raises(ConfigError, match=r"Not a directory.*ISOGLOSS_UNFINISHED"),
        locked_work_dir(RunKind.EVALUATE, "a" * 64),
    ):
        pass


def hold_lock(folder: str, messages: "multiprocessing.Queue[str]") -> None:
    os.chdir(folder)
    with locked_work_dir(RunKind.FINETUNE, "f" * 64) as work:
        messages.put("locked")
        time.sleep(1.0)
        (work.folder / "mark").touch()


@pytest.mark.real
def test_a_second_process_waits_for_the_first_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = multiprocessing.get_context("spawn")
    messages: multiprocessing.Queue[str] = context.Queue()
    other = context.Process(target=hold_lock, args=(str(tmp_path), messages))
    other.start()
    assert messages.get(timeout=60) == "locked"
    with locked_work_dir(RunKind.FINETUNE, "f" * 64) as work:
        assert (work.folder / "mark").exists()
        work.delete()
    other.join()
    assert "another process is computing finetune-ffffffffffff; waiting" in caplog.text
    assert not work.folder.exists()


def work_folders() -> list[str]:
    return [path.name for path in work_root().iterdir() if path.name != LOCKS]


def finetune_config(folder: Path, **changes: object) -> FinetuneConfig:
    settings = {
        "model": str(folder), "dtype": "float32", "steps": 6, "batch_size": 2, "limit": 6,
        "dev_limit": 4, "rank": 2, "checkpoint_every": 2, "eval_every": 3,
    }  # fmt: skip
    return FinetuneConfig(**{**settings, **changes})


def test_a_failed_finetune_resumes_in_its_run_or_in_a_new_one_of_another_store(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = finetune_config(model_folder("gemma3"))
    session = Session(config.model, config.dtype)
    accumulate = loop._accumulate_gradients
    calls: list[int] = []

    def fail_at_the_fourth_step(*args: object) -> float:
        calls.append(1)
        if len(calls) == 4:
            raise OSError("the machine is going down")
        return accumulate(*args)

    monkeypatch.setattr(loop, "_accumulate_gradients", fail_at_the_fourth_step)
    with pytest.raises(OSError, match="going down"):
        finetune(config, session)
    (failed,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert failed.info.status == "FAILED"
    run = finetune(config, session)
    assert len(calls) == 4 + 4  # from step 3, the first after the checkpoint, to step 6
    assert run.info.run_id == failed.info.run_id
    assert run.info.status == "FINISHED"
    assert steps(run.info.run_id, "train/loss") == [1, 2, 3, 4, 5, 6]
    assert work_folders() == []
    # Another store does not have the run; it gets every step in a new one.
    calls.clear()
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(OSError, match="going down"):
        finetune(other, session)
    (tmp_path / "elsewhere").mkdir()
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # of this store, set by MLflow
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/elsewhere/mlflow.db")
    moved = finetune(other, session)
    assert steps(moved.info.run_id, "train/loss") == [1, 2, 3, 4, 5, 6]
    assert work_folders() == []


def test_a_finetune_that_could_not_upload_uploads_without_training_again(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = finetune_config(model_folder("gemma3"))
    session = Session(config.model, config.dtype)

    def fail(*_: object, **__: object) -> str:
        raise MlflowException("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr("isogloss.stages.finetune.log_adapter", fail)
        with pytest.raises(TrackingError, match=r"connection refused.*unfinished/finetune-\w{12}"):
            finetune(config, session)
    monkeypatch.setattr(loop, "_accumulate_gradients", fail)  # must not be called
    monkeypatch.setattr(loop, "predict", fail)
    run = finetune(config, session)
    assert run.info.status == "FINISHED"
    assert run.data.tags["isogloss.adapter_uri"].startswith("models:/m-")


def test_an_evaluate_that_failed_or_could_not_upload_repeats_no_language(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EvaluateConfig(
        model=str(model_folder("gemma3")), dtype="float32", limit=3,
        languages="arb_Arab,heb_Hebr,eng_Latn",
    )  # fmt: skip
    session = Session(config.model, config.dtype)
    complete = evaluate(config, session)
    expected = read_predictions(complete.info.run_id)
    mlflow.MlflowClient().delete_run(complete.info.run_id)
    languages: list[str] = []

    def fail_at_the_second_language(*args: object, **kwargs: object) -> object:
        languages.append(args[1][0].language)
        if languages == ["arb_Arab", "heb_Hebr"]:
            raise OSError("the machine is going down")
        return predict_module.predict(*args, **kwargs)

    def fail(*_: object) -> None:
        raise MlflowException("connection refused")

    monkeypatch.setattr(evaluate_stage, "predict", fail_at_the_second_language)
    with pytest.raises(OSError, match="going down"):
        evaluate(config, session)
    with monkeypatch.context() as patch:
        patch.setattr("isogloss.tracking.log_predictions", fail)
        with pytest.raises(TrackingError, match="unfinished/evaluate-"):
            evaluate(config, session)
    resumed = evaluate(config, session)
    assert languages == ["arb_Arab", "heb_Hebr", "heb_Hebr", "eng_Latn"]
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert (run.info.run_id, run.info.status) == (resumed.info.run_id, "FINISHED")
    pd.testing.assert_frame_equal(read_predictions(resumed.info.run_id), expected)
    assert work_folders() == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_file_is_deleted_with_a_warning(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = WorkDir(tmp_path)
    work.record_run("a" * 32)
    DAMAGES[damage](tmp_path / RUN_FILE)
    assert work.run_id is None
    assert caplog.messages == [
        f"{tmp_path / RUN_FILE} is damaged and deleted; the run it named may be left as it is"
    ]
    assert work.major_update() is None
    work.record_run("b" * 32)
    assert work.run_id == "b" * 32


def run_of_a_process_that_was_killed(**tags: str) -> str:
    """A running run whose process has opened it and lived no longer."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    assert process.pid is not None
    name = f"{machine()}-{process.pid}-{started_at(process.pid)}"
    process.kill()
    process.join()
    run = mlflow.MlflowClient().create_run(
        choose_experiment(None), tags=prefixed({**tags, "process": name})
    )
    return str(run.info.run_id)


OWN = {"kind": "evaluate", "fingerprint": "a" * 64}


def test_a_run_that_a_killed_process_opened_and_did_not_record_is_resumed() -> None:
    left = run_of_a_process_that_was_killed(**OWN)
    other = run_of_a_process_that_was_killed(**{**OWN, "fingerprint": "b" * 64})
    alive = mlflow.MlflowClient().create_run(
        choose_experiment(None), tags=prefixed({**OWN, "process": this_process()})
    )
    work_folder(f"evaluate-{'a' * 12}").mkdir(parents=True)
    config = EvaluateConfig(model="m")
    with (
        reuse_or_lock(RunKind.EVALUATE, "a" * 64, None) as (work, finished),
        open_run(RunKind.EVALUATE, "base", config, OWN, work=work) as run,
    ):
        assert finished is None
        assert run.info.run_id == left
    assert mlflow.get_run(left).info.status == "FINISHED"
    assert mlflow.get_run(left).data.tags["isogloss.process"] == this_process()
    for untouched in (other, alive.info.run_id):
        assert mlflow.get_run(untouched).info.status == "RUNNING"


def test_without_a_work_folder_a_run_is_begun_anew() -> None:
    left = run_of_a_process_that_was_killed(**OWN)
    config = EvaluateConfig(model="m")
    with (
        reuse_or_lock(RunKind.EVALUATE, "a" * 64, None) as (work, _),
        open_run(RunKind.EVALUATE, "base", config, OWN, work=work) as run,
    ):
        assert run.info.run_id != left
