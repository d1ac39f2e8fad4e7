"""A tracking server that does not answer or refuses a request, and uploads that fail because of it.

Results are on disk before they are sent (see `resume`), so a failed upload loses nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

import mlflow
import requests
from mlflow.exceptions import MlflowException, RestException

from isogloss.errors import TrackingError

UNREACHABLE = (MlflowException, requests.RequestException, OSError)
LONGEST_REASON = 300  # characters
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_ACCESS = ("UNAUTHENTICATED", "PERMISSION_DENIED")


class Failure(Enum):
    """Why MLflow did not do what it was asked to do."""

    NO_ANSWER = auto()
    ACCESS_DENIED = auto()
    OTHER = auto()


def failure(error: BaseException | None) -> Failure:
    """What kind of failure an error is; None is a request that is still being retried."""
    if error is None:
        return Failure.NO_ANSWER
    if isinstance(error, MlflowException):
        if error.error_code in _ACCESS:
            return Failure.ACCESS_DENIED
        # A page that is not MLflow's, from a proxy or another server. MLflow raises its plain
        # exception for it, and nothing but the text differs from errors of a local store.
        page = str(error).startswith("API request to endpoint")
        if page and not isinstance(error, RestException):
            return Failure.NO_ANSWER
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, requests.RequestException):
            return Failure.NO_ANSWER
        cause = cause.__cause__ or cause.__context__
    return Failure.OTHER


def reason(error: BaseException | None) -> str:
    """An error as a clause for a sentence: `does not answer`, or the first line of its text."""
    if failure(error) == Failure.NO_ANSWER:
        return "does not answer"
    lines = str(error).strip().splitlines() or [repr(error)]
    return lines[0][:LONGEST_REASON]


def server_timeout() -> float:
    """Seconds to wait at the end of a run for a server: $ISOGLOSS_PATIENCE or 300."""
    return float(os.environ.get("ISOGLOSS_PATIENCE", "300"))


@contextmanager
def uploading(folder: Path) -> Iterator[None]:
    """Context of an upload to MLflow; a failure is raised as TrackingError.

    The error says that the results are in `folder` and that the same command uploads them.
    """
    try:
        yield
    except UNREACHABLE as error:
        raise upload_error(folder, error) from error


def upload_error(folder: Path, error: BaseException | None) -> TrackingError:
    """The error for results in `folder` that could not be uploaded."""
    return TrackingError(
        f"the results could not be sent to MLflow at {mlflow.get_tracking_uri()} "
        f"({reason(error)}); they are in {folder}, and running the same command again sends "
        f"them without recomputing them."
    )


@contextmanager
def no_retries() -> Iterator[None]:
    """Context in which MLflow's client does not retry; by default it does so for four minutes."""
    before = os.environ.get(_RETRIES)
    os.environ[_RETRIES] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_RETRIES]
        else:
            os.environ[_RETRIES] = before
