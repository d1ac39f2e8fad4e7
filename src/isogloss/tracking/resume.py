"""Unfinished work: what a run has computed so far, on disk until MLflow has all of it.

Each piece of work has a folder of its own, named by its kind and fingerprint, below
$ISOGLOSS_UNFINISHED or `unfinished/` in the current directory. A process that is killed leaves it,
one that cannot reach MLflow too; the same command, run again, goes on from there. It is deleted
when MLflow has everything.
"""

import json
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import requests
from filelock import FileLock, Timeout
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from isogloss.errors import ConfigError, TrackingError
from isogloss.files import write_whole

logger = logging.getLogger(__name__)

RUN = "run.json"
METRICS = "metrics.jsonl"
METRICS_A_REQUEST = 500
SHORT_WAIT = 5.0  # seconds
SILENCE = 10.0  # seconds without an answer after which the user is told
NO_ANSWER = "does not answer"
UNREACHABLE = (MlflowException, requests.RequestException, OSError)


def unfinished_dir() -> Path:
    """Folder of all unfinished work: $ISOGLOSS_UNFINISHED or `unfinished/` here."""
    return Path(os.environ.get("ISOGLOSS_UNFINISHED", "unfinished")).absolute()


def patience() -> float:
    """Seconds to wait at the end for a server that does not answer: $ISOGLOSS_PATIENCE or 300."""
    return float(os.environ.get("ISOGLOSS_PATIENCE", "300"))


@dataclass(frozen=True)
class Work:
    """A piece of work that this process alone is at."""

    folder: Path

    @property
    def run_id(self) -> str | None:
        """The run that the work was begun in; None at first."""
        path = self.folder / RUN
        return str(json.loads(path.read_text("utf-8"))["run_id"]) if path.is_file() else None

    def belongs_to(self, run_id: str) -> None:
        """Remember the run that the work is done in."""
        write_whole(self.folder / RUN, json.dumps({"run_id": run_id}).encode())

    def done(self) -> None:
        """Delete the folder: MLflow has all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def claim(kind: str, fingerprint: str) -> Iterator[Work]:
    """Be the one process that does this work; wait for another one that is at it.

    The folder is there within the context, with what an earlier process has left in it.
    """
    folder = unfinished_dir() / f"{kind}-{fingerprint[:12]}"
    locks = unfinished_dir() / ".locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"unfinished work cannot be kept in {unfinished_dir()} ({error.strerror}); "
            f"ISOGLOSS_UNFINISHED names another folder."
        ) from error
    lock = FileLock(locks / folder.name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info(f"another process is at {folder.name}; waiting for it")
        lock.acquire()
    try:
        folder.mkdir(exist_ok=True)
        yield Work(folder)
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        lock.release()


@contextmanager
def uploading(folder: Path) -> Iterator[None]:
    """Context of sending results to MLflow: what fails is a TrackingError that says where they are.

    Nothing is lost by it: the same command uploads them.
    """
    try:
        yield
    except UNREACHABLE as error:
        raise not_uploaded(folder, error) from error


def not_uploaded(folder: Path, error: BaseException | None) -> TrackingError:
    """The error of results that could not be sent to MLflow."""
    return TrackingError(
        f"what was computed could not be sent to MLflow at {mlflow.get_tracking_uri()} "
        f"({reason(error)}); it is in {folder}, and the same command, run again, sends it without "
        f"computing it again."
    )


def reason(error: BaseException | None) -> str:
    """The first line of an error; NO_ANSWER for the page that MLflow's client makes of that."""
    lines = str(error or "it does not answer in time").strip().splitlines() or [repr(error)]
    return NO_ANSWER if lines[0].startswith("API request to") else lines[0][:300]


@contextmanager
def few_retries() -> Iterator[None]:
    """Context in which MLflow's client gives up on a server at once, not after four minutes."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class MetricLog:
    """Metrics by step, first on disk and then in MLflow, which may be away in the meantime.

    A step is logged once: when training goes on from a checkpoint, what it measures again is
    already here. Lines are sent by a thread of its own, which tries until the end of the context
    loses patience; sending one twice does no harm, since MLflow knows it by step and time.
    """

    def __init__(self, folder: Path, run_id: Callable[[], str]) -> None:
        """`run_id` is asked for when there is something to send, and again if it fails."""
        self.folder = folder
        self._run_id = run_id
        self._path = folder / METRICS
        self._known: set[tuple[int, str]] = set()
        self._unsent: queue.Queue[Metric | None] = queue.Queue()
        self._error: BaseException | None = None
        self._sent = time.monotonic()
        self._behind = False
        for metric in read_metrics(folder):
            self._known.add((metric.step, metric.key))
            self._unsent.put(metric)
        self._thread = threading.Thread(target=self._send, name="metrics", daemon=True)
        self._thread.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of a step; those it already has stay as they are. Never waits."""
        now = int(time.time() * 1000)
        new = [
            Metric(key, value, now, step)
            for key, value in metrics.items()
            if (step, key) not in self._known
        ]
        with self._path.open("a", encoding="utf-8") as stream:
            for metric in new:
                line = {
                    name: getattr(metric, name) for name in ("key", "value", "timestamp", "step")
                }
                stream.write(f"{json.dumps(line)}\n")
        for metric in new:
            self._known.add((metric.step, metric.key))
            self._unsent.put(metric)
        # MLflow's client says nothing while it tries again, for minutes.
        silent = time.monotonic() - self._sent > SILENCE and self._unsent.qsize() > len(new)
        if silent and not self._behind:
            self._behind = True
            logger.info(
                f"MLflow at {mlflow.get_tracking_uri()} does not take metrics; they are kept in "
                f"{self._path} and sent when it does"
            )

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait until MLflow has everything; TrackingError if it does not come back in time.

        After an error, which is the news, the wait is short: what is not sent is on disk.
        """
        if not self.close(patience() if kind is None else SHORT_WAIT) and kind is None:
            raise not_uploaded(self.folder, self._error)

    def close(self, seconds: float) -> bool:
        """Take no more metrics; whether MLflow has all of them before so many seconds are over."""
        self._unsent.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _send(self) -> None:
        client = mlflow.MlflowClient()
        over = False
        while not over:
            batch = [self._unsent.get()]
            while len(batch) < METRICS_A_REQUEST and not self._unsent.empty():
                batch.append(self._unsent.get())
            over = batch[-1] is None
            metrics = [metric for metric in batch if metric is not None]
            pause = 1.0
            while metrics:
                try:
                    client.log_batch(self._run_id(), metrics=metrics)
                    break
                except UNREACHABLE as error:
                    self._error = error
                    time.sleep(pause)
                    pause = min(2 * pause, 10.0)
            self._sent = time.monotonic()
            if self._behind:
                logger.info("MLflow takes metrics again")
                self._behind = False


def read_metrics(folder: Path) -> list[Metric]:
    """The metrics kept in a folder of unfinished work.

    A line that its process was killed in the midst of writing is cut off.
    """
    path = folder / METRICS
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_whole(path, whole)
    return [Metric(**json.loads(line)) for line in whole.splitlines()]
