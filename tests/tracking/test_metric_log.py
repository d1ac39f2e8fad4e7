"""Metrics are on disk at once, in MLflow at the end, and logged once."""

import time
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from isogloss.errors import TrackingError
from isogloss.tracking import metric_log
from isogloss.tracking.metric_log import METRICS_FILE, MetricLog, read_metrics


@pytest.fixture
def run_id() -> str:
    run: mlflow.ActiveRun
    with mlflow.start_run() as run:
        return str(run.info.run_id)


def history(run_id: str, name: str) -> list[tuple[int, float]]:
    points = mlflow.MlflowClient().get_metric_history(run_id, name)
    return [(point.step, point.value) for point in points]


def test_metrics_are_on_disk_at_once_and_in_mlflow_at_the_end(run_id: str, tmp_path: Path) -> None:
    with MetricLog(tmp_path, lambda: run_id) as metrics:
        metrics.log(1, {"train/loss": 2.5, "train/learning_rate": 0.1})
        assert [metric.value for metric in read_metrics(tmp_path)] == [2.5, 0.1]
        metrics.log(2, {"train/loss": 1.5})
    assert history(run_id, "train/loss") == [(1, 2.5), (2, 1.5)]


def test_a_step_that_is_repeated_is_not_logged_again(run_id: str, tmp_path: Path) -> None:
    for value in (1.0, 9.0):
        with MetricLog(tmp_path, lambda: run_id) as metrics:
            for step in (1, 2, 3):
                metrics.log(step, {"train/loss": value})
    assert history(run_id, "train/loss") == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert len(read_metrics(tmp_path)) == 3


def test_another_metric_of_a_logged_step_is_logged(run_id: str, tmp_path: Path) -> None:
    with MetricLog(tmp_path, lambda: run_id) as metrics:
        metrics.log(1, {"train/loss": 1.0})
        metrics.log(1, {"dev/accuracy": 0.5})
    assert history(run_id, "dev/accuracy") == [(1, 0.5)]


def test_a_line_cut_off_by_a_kill_is_written_again(run_id: str, tmp_path: Path) -> None:
    with MetricLog(tmp_path, lambda: run_id) as metrics:
        metrics.log(1, {"a": 1.0})
        metrics.log(2, {"a": 2.0})
    complete = (tmp_path / METRICS_FILE).read_bytes()
    (tmp_path / METRICS_FILE).write_bytes(complete[:-9])
    with MetricLog(tmp_path, lambda: run_id) as metrics:
        metrics.log(2, {"a": 2.0})
        metrics.log(3, {"a": 3.0})
    assert [(metric.step, metric.value) for metric in read_metrics(tmp_path)] == [
        (1, 1.0), (2, 2.0), (3, 3.0),
    ]  # fmt: skip


def test_metrics_that_mlflow_does_not_accept_stay_on_disk_and_are_sent_later(
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_batch = mlflow.MlflowClient.log_batch
    unreachable = [True]

    def log_batch_if_reachable(self: mlflow.MlflowClient, *args: object, **kwargs: object) -> None:
        if unreachable[0]:
            raise MlflowException("connection refused")
        log_batch(self, *args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", log_batch_if_reachable)
    monkeypatch.setattr(metric_log, "SILENCE", 0.05)
    monkeypatch.setenv("ISOGLOSS_PATIENCE", "0.3")

    def log_a_hundred_steps() -> None:
        with MetricLog(tmp_path, lambda: run_id) as metrics:
            started = time.monotonic()
            for step in range(100):
                metrics.log(step, {"a": float(step)})
                time.sleep(0.002)
            assert time.monotonic() - started < 2  # logging does not wait for MLflow

    with pytest.raises(TrackingError, match=r"connection refused.*same command again"):
        log_a_hundred_steps()
    assert "does not accept metrics; they are in" in caplog.text
    unreachable[0] = False
    monkeypatch.setenv("ISOGLOSS_PATIENCE", "30")
    with MetricLog(tmp_path, lambda: run_id):
        pass
    assert history(run_id, "a") == [(step, float(step)) for step in range(100)]


def test_an_error_in_the_context_is_not_replaced_by_one_of_an_unreachable_server(
    run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("connection refused")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", refuse)
    monkeypatch.setattr(metric_log, "SHORT_WAIT", 0.05)

    def fail_after_a_step() -> None:
        with MetricLog(tmp_path, lambda: run_id) as metrics:
            metrics.log(1, {"a": 1.0})
            raise OSError("out of memory")

    with pytest.raises(OSError, match="out of memory"):
        fail_after_a_step()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b'{"key": "a"}',
        b'{"key": 1, "value": 1.0, "timestamp": 1, "step": 1}',
        b'{"key": "a", "value": "1", "timestamp": 1, "step": 1}',
        b'{"key": "a", "value": 1.0, "timestamp": 1, "step": null}',
        b"\xff\x00\xfe",
    ],
)
def test_a_line_that_is_no_metric_is_removed_and_the_others_are_kept(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / METRICS_FILE
    whole = [
        b'{"key": "train/loss", "value": %s, "timestamp": 5, "step": 1}\n' % value
        for value in (b"0.5", b"NaN")
    ]
    path.write_bytes(whole[0] + line + b"\n" + whole[1])
    first, second = read_metrics(tmp_path)
    assert (first.key, first.value, first.timestamp, first.step) == ("train/loss", 0.5, 5, 1)
    assert second.value != second.value
    assert caplog.messages == [f"{path}: 1 damaged lines, whose metrics are lost"]
    assert path.read_bytes() == b"".join(whole)
