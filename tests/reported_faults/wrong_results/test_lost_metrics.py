"""No metric and no file is lost silently: not by a dying thread, nor by two writers of one file."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos import databricks_pb2 as codes

from isogloss.errors import ConfigError, TrackingError
from isogloss.files import whole_folder, write_whole
from isogloss.tracking import RunKind, metric_log, reuse_or_lock
from isogloss.tracking.metric_log import METRICS_FILE, MetricLog, read_metrics
from isogloss.tracking.trials import TrialOutcome, TrialRun, publish_trial

WRITERS = 2
WRITES = 300
STORE = "mlflow.db"  # of the test
PERMANENT = {
    "refused value": MlflowException("value is too long", codes.INVALID_PARAMETER_VALUE),
    "deleted run": RestException({"error_code": "INVALID_STATE", "message": "run is deleted"}),
    "no such run": RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"}),
    "expired login": MlflowException("token has expired", codes.UNAUTHENTICATED),
    "no permission": RestException({"error_code": "PERMISSION_DENIED", "message": "read only"}),
    "too large": MlflowException("API request to endpoint x failed with error code 413 != 200"),
    "bug": KeyError("key"),
    "bug in a library": RuntimeError("dictionary changed size during iteration"),
}
TRANSIENT = {
    "restart": MlflowException("API request to endpoint x failed with error code 502 != 200"),
    "no route": MlflowException(
        "API request to endpoint x failed with error code 404 != 200", codes.ENDPOINT_NOT_FOUND
    ),
    "locked": MlflowException("database is locked", codes.TEMPORARILY_UNAVAILABLE),
    "too many": RestException({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}),
    "network": OSError("network is unreachable"),
}


@pytest.fixture
def run_id() -> str:
    with mlflow.start_run() as run:
        return str(run.info.run_id)


def sending(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, times: int = 1_000_000
) -> list[int]:
    """Make the first `times` requests of metrics fail; the list has an entry for each."""
    log_batch, failed = mlflow.MlflowClient.log_batch, []

    def fail(self: mlflow.MlflowClient, *args: object, **kwargs: object) -> None:
        if len(failed) < times:
            failed.append(1)
            raise error
        log_batch(self, *args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", fail)
    return failed


def log_two_steps(folder: Path, run_id: str) -> None:
    with MetricLog(folder, lambda: run_id) as metrics:
        metrics.log(1, {"loss": 2.0})
        time.sleep(0.1)
        metrics.log(2, {"loss": 1.0})


@pytest.mark.parametrize("cause", PERMANENT)
def test_an_error_that_no_retry_changes_is_said_at_once_and_ends_the_work_with_its_metrics_on_disk(
    cause: str,
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    requests = sending(monkeypatch, PERMANENT[cause])
    started = time.monotonic()  # patience is 300 seconds
    with pytest.raises(TrackingError, match=rf"they are in {tmp_path}, and running the same"):
        log_two_steps(tmp_path, run_id)
    assert time.monotonic() - started < 5
    assert len(requests) == 1
    assert "accepts no more metrics" in caplog.text
    assert [metric.value for metric in read_metrics(tmp_path)] == [2.0, 1.0]


@pytest.mark.parametrize("cause", TRANSIENT)
def test_an_error_that_passes_is_retried(
    cause: str, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_log, "FIRST_PAUSE", 0.01)
    sending(monkeypatch, TRANSIENT[cause], times=1)
    log_two_steps(tmp_path, run_id)
    history = mlflow.MlflowClient().get_metric_history(run_id, "loss")
    assert [point.value for point in history] == [2.0, 1.0]


def test_closing_says_that_the_thread_did_not_send_everything(
    run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending(monkeypatch, SystemExit(3))
    metrics = MetricLog(tmp_path, lambda: run_id)
    metrics.log(1, {"loss": 2.0})
    assert metrics.close(5) is False


def test_unfinished_work_is_kept_when_the_thread_dies(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending(monkeypatch, RuntimeError("a bug"))
    with (
        pytest.raises(TrackingError, match="RuntimeError: a bug"),
        reuse_or_lock(RunKind.FINETUNE, "f" * 64, None) as (work, _),
    ):
        log_two_steps(work.folder, run_id)
    assert (work.folder / METRICS_FILE).is_file()


def test_damaged_lines_of_metrics_are_said_and_cost_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = '{"key": "loss", "value": %d, "timestamp": 1, "step": %d}\n'
    text = line % (1, 1) + "\0\0\0\n" + line % (2, 2) + '{"key": "loss"}\n' + line % (3, 3) + "{"
    (tmp_path / METRICS_FILE).write_text(text)
    assert [metric.value for metric in read_metrics(tmp_path)] == [1, 2, 3]
    assert "2 damaged lines" in caplog.text
    assert (tmp_path / METRICS_FILE).read_text().count("\n") == 3


@pytest.mark.parametrize("patience", ["soon", "-1", "nan", "inf"])
def test_an_invalid_patience_is_refused_before_the_work(
    patience: str, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_PATIENCE", patience)
    with pytest.raises(ConfigError, match=f"ISOGLOSS_PATIENCE must be .* but is '{patience}'"):
        log_two_steps(tmp_path, run_id)
    assert not (tmp_path / METRICS_FILE).exists()


def test_a_run_deleted_while_it_is_logged_is_a_permanent_error(run_id: str, tmp_path: Path) -> None:
    mlflow.delete_run(run_id)
    started = time.monotonic()
    with pytest.raises(TrackingError, match=r"deleted|active"):
        log_two_steps(tmp_path, run_id)
    assert time.monotonic() - started < 5


def test_the_run_of_a_trial_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "trial-0"
    folder.mkdir()
    trial = TrialRun(experiment_id="0", name="trial 0", started=1, tags={})
    trial.write(folder)
    deleted = trial.run_id(folder)
    mlflow.delete_run(deleted)
    (folder / METRICS_FILE).write_text('{"key": "a", "value": 1.5, "timestamp": 1, "step": 1}\n')
    publish_trial(TrialOutcome(0, "complete", objective=0.5), folder)
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert run.info.run_id != deleted
    assert run.data.metrics == {"a": 1.5, "objective": 0.5}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {STORE}


def errors_of_two_writers(write: Callable[[int], None]) -> list[BaseException]:
    errors: list[BaseException] = []
    start = threading.Barrier(WRITERS)

    def work(writer: int) -> None:
        start.wait()
        for _ in range(WRITES):
            try:
                write(writer)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_two_writers_of_one_file_both_write_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    contents = [bytes([48 + writer]) * 10_000 for writer in range(WRITERS)]
    assert errors_of_two_writers(lambda writer: write_whole(path, contents[writer])) == []
    assert path.read_bytes() in contents
    assert names(tmp_path) == {"run.json"}


def test_two_writers_of_one_folder_both_write_it_whole(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        with whole_folder(tmp_path / "last") as folder:
            for name in "ab":
                (folder / name).write_text(str(writer))

    assert errors_of_two_writers(write) == []
    assert {(tmp_path / "last" / name).read_text() for name in "ab"} in ({"0"}, {"1"})
    assert names(tmp_path) == {"last"}


def test_a_folder_is_as_before_after_an_error(tmp_path: Path) -> None:
    def fill(text: str, error: BaseException | None = None) -> None:
        with whole_folder(tmp_path / "last") as folder:
            (folder / "a").write_text(text)
            if error:
                raise error

    fill("old")
    with pytest.raises(OSError, match="disk full"):
        fill("new", OSError("disk full"))
    assert (tmp_path / "last/a").read_text() == "old"
    assert names(tmp_path) == {"last"}


def test_what_a_killed_writer_left_is_deleted_when_its_work_is_resumed() -> None:
    def leave_a_part() -> None:
        with reuse_or_lock(RunKind.EVALUATE, "e" * 64, None) as (work, _):
            (work.folder / "checkpoint.0123.part").write_bytes(b"half")
            (work.folder / "kept.parquet").write_bytes(b"whole")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave_a_part()
    with reuse_or_lock(RunKind.EVALUATE, "e" * 64, None) as (work, _):
        assert names(work.folder) == {"kept.parquet"}
