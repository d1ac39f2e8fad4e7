"""Metrics by step, written to disk first and sent to MLflow by a thread."""

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
from mlflow.entities import Metric
from pydantic import BaseModel, ConfigDict, ValidationError

from isogloss.files import keep_to_owner, write_whole
from isogloss.tracking.server import (
    UNREACHABLE,
    is_permanent,
    reason,
    server_timeout,
    shown_uri,
    upload_error,
)

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
METRICS_PER_REQUEST = 500
SHORT_WAIT = 5.0  # seconds
SILENCE = 10.0  # seconds without an answer after which the user is told
FIRST_PAUSE = 1.0  # seconds between two attempts, then twice as long each time
LONGEST_PAUSE = 10.0


class _Line(BaseModel):
    """A line of the file of metrics."""

    model_config = ConfigDict(strict=True)

    key: str
    value: float
    timestamp: int
    step: int


class MetricLog:
    """Logs metrics by step without waiting for MLflow, which may be unreachable meanwhile.

    Each step is logged once: when training resumes from a checkpoint, the steps it repeats are in
    the file already. A thread sends the metrics and retries until the context ends and its timeout
    passes. Sending a metric twice is harmless, since MLflow identifies it by step and time. An
    error that no retry changes ends the thread: it is logged, and raised when the context ends.
    """

    def __init__(self, folder: Path, run_id: Callable[[], str]) -> None:
        """`run_id` is called when there is something to send, and again after each failure."""
        server_timeout()  # refuses an invalid one now instead of at the end
        self.folder = folder
        self._run_id = run_id
        self._path = folder / METRICS_FILE
        self._logged: set[tuple[int, str]] = set()
        self._unsent: queue.Queue[Metric | None] = queue.Queue()
        self._error: BaseException | None = None
        self._last_sent = time.monotonic()
        self._behind = False
        self._all_sent = False
        for metric in read_metrics(folder):
            self._logged.add((metric.step, metric.key))
            self._unsent.put(metric)
        self._thread = threading.Thread(target=self._send_or_fail, name="metrics", daemon=True)
        self._thread.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step, except those it already has; returns at once."""
        now = int(time.time() * 1000)
        new = [
            Metric(name, value, now, step)
            for name, value in metrics.items()
            if (step, name) not in self._logged
        ]
        with self._path.open("a", encoding="utf-8") as stream:
            keep_to_owner(self._path)
            stream.writelines(f"{json.dumps(_as_json(metric))}\n" for metric in new)
        for metric in new:
            self._logged.add((metric.step, metric.key))
            self._unsent.put(metric)
        # MLflow's client retries for minutes without a message.
        silent = time.monotonic() - self._last_sent > SILENCE and self._unsent.qsize() > len(new)
        if silent and not self._behind and self._thread.is_alive():
            self._behind = True
            logger.warning(
                f"MLflow at {shown_uri()} does not accept metrics; they are in "
                f"{self._path} and are sent as soon as it does"
            )

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait until MLflow has everything; raise TrackingError if that takes too long.

        After another error the wait is short: that error matters more, and unsent metrics are on
        disk.
        """
        if not self.close(server_timeout() if kind is None else SHORT_WAIT) and kind is None:
            raise upload_error(self.folder, self._error) from self._error

    def close(self, timeout: float) -> bool:
        """Accept no more metrics; whether MLflow has all of them within `timeout` seconds."""
        self._unsent.put(None)
        self._thread.join(timeout)
        return self._all_sent

    def _send_or_fail(self) -> None:
        try:
            self._send()
            self._all_sent = True
        except BaseException as error:
            # Whatever it is: a thread that dies silently would lose what is not sent yet.
            self._error = error
            logger.warning(
                f"MLflow at {shown_uri()} accepts no more metrics ({reason(error)}); "
                f"they are in {self._path}, and the work continues"
            )

    def _send(self) -> None:
        client = mlflow.MlflowClient()
        closed = False
        while not closed:
            batch = [self._unsent.get()]
            while len(batch) < METRICS_PER_REQUEST and not self._unsent.empty():
                batch.append(self._unsent.get())
            closed = batch[-1] is None
            metrics = [metric for metric in batch if metric is not None]
            pause = FIRST_PAUSE
            while metrics:
                try:
                    client.log_batch(self._run_id(), metrics=metrics)
                    break
                except UNREACHABLE as error:
                    if is_permanent(error):
                        raise
                    self._error = error
                    time.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
            self._last_sent = time.monotonic()
            if self._behind:
                logger.info("MLflow accepts metrics again")
                self._behind = False


def read_metrics(folder: Path) -> list[Metric]:
    """The metrics in a work folder.

    Lines that a process killed while it wrote, or a full disk, has damaged are removed.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        return []
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    whole = [(line, metric) for line in lines if (metric := _metric(line)) is not None]
    if damaged := [line for line in lines[:-1] if _metric(line) is None]:
        logger.warning(f"{path}: {len(damaged)} damaged lines, whose metrics are lost")
    if len(whole) != len(lines):
        write_whole(path, b"".join(line for line, _ in whole))
    return [metric for _, metric in whole]


def _metric(line: bytes) -> Metric | None:
    """The metric of a line; None if the line is damaged."""
    if not line.endswith(b"\n"):
        return None
    try:
        known = _Line.model_validate_json(line)
    except ValidationError:
        return None
    return Metric(known.key, known.value, known.timestamp, known.step)


def _as_json(metric: Metric) -> dict[str, float | int | str]:
    return {name: getattr(metric, name) for name in ("key", "value", "timestamp", "step")}
