"""What went wrong with MLflow, as a clause for one sentence, and uploads that fail because of it.

Results are on disk before they are sent (see `resume`), so a failed upload loses nothing.
"""

import errno
import math
import os
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from http import HTTPStatus
from http.client import responses
from pathlib import Path

import mlflow
import requests
from mlflow.exceptions import InvalidUrlException, MlflowException
from urllib3.exceptions import NameResolutionError

from isogloss.compat.mlflow import errno_of, http_status, is_foreign_page, sqlite_wait
from isogloss.errors import ConfigError, TrackingError
from isogloss.files import make_room
from isogloss.formatting import without_password

UNREACHABLE = (MlflowException, requests.RequestException, OSError)
LONGEST_REASON = 300  # characters
PATIENCE = "ISOGLOSS_PATIENCE"
LOCKED = 120  # seconds to wait for a sqlite database that another process has locked
MACHINE_FAULTS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EIO,
)
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
HURRY = 10  # seconds for an answer to a process that is to end
_ACCESS = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
# Errors that the same request meets again. BAD_REQUEST is not one: a local store has it for every
# error of its database. Neither is ENDPOINT_NOT_FOUND: a proxy answers so while a server restarts.
_PERMANENT = (
    *_ACCESS,
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_FOUND",
    "NOT_IMPLEMENTED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
_TRANSIENT_STATUS = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
)


class Failure(Enum):
    """Why MLflow did not do what it was asked to do."""

    NO_ANSWER = auto()
    ACCESS_DENIED = auto()
    NOT_MLFLOW = auto()  # an answer of a proxy or of another server
    MACHINE = auto()  # this one: a full disk, too many open files
    OTHER = auto()


def failure(error: BaseException | None) -> Failure:
    """What kind of failure an error is; None is a request that is still being retried."""
    if error is None:
        return Failure.NO_ANSWER
    status = http_status(error)
    if isinstance(error, MlflowException) and error.error_code in _ACCESS:
        return Failure.ACCESS_DENIED
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Failure.ACCESS_DENIED
    if status is not None or is_foreign_page(error):
        return Failure.NOT_MLFLOW
    if _machine_fault(error) is not None:
        return Failure.MACHINE
    silent = (requests.ConnectionError, requests.Timeout)
    if any(isinstance(cause, silent) for cause in _causes(error)) and _tls_fault(error) is None:
        return Failure.NO_ANSWER
    return Failure.OTHER


def hides_artifacts(error: BaseException) -> bool:
    """Whether an error keeps artifacts from being read, and says nothing about them.

    An answer that is not MLflow's says something if it is that there is no such file.
    """
    kind = failure(error)
    if kind == Failure.NOT_MLFLOW:
        return http_status(error) != HTTPStatus.NOT_FOUND
    return kind != Failure.OTHER


def reason(error: BaseException | None) -> str:
    """An error as a clause for a sentence: `does not answer`, or the first line of its text."""
    kind = failure(error)
    if kind == Failure.NO_ANSWER:
        unknown = any(isinstance(cause, NameResolutionError) for cause in _causes(error))
        return "has a host name that is not known here" if unknown else "does not answer"
    status = http_status(error) if error else None
    if status is not None:
        return f"answers HTTP {status} {responses.get(status, '')}".rstrip()
    if kind == Failure.NOT_MLFLOW:
        return "answers with a page that is not MLflow's"
    if (number := _machine_fault(error)) is not None:
        return os.strerror(number)
    if (fault := _tls_fault(error)) is not None:
        return f"fails the TLS handshake: {fault}"
    lines = str(error).strip().splitlines() or [repr(error)]
    named = isinstance(error, UNREACHABLE) or not str(error).strip()
    return (lines[0] if named else f"{type(error).__name__}: {lines[0]}")[:LONGEST_REASON]


def is_permanent(error: BaseException) -> bool:
    """Whether the same request would fail again: it is refused, not unanswered."""
    if isinstance(error, InvalidUrlException) or not isinstance(error, UNREACHABLE):
        return True
    if isinstance(error, MlflowException) and error.error_code in _PERMANENT:
        return True
    status = http_status(error)
    refused = status is not None and 400 <= status < 500
    return refused and status not in _TRANSIENT_STATUS


def is_missing(error: BaseException) -> bool:
    """Whether MLflow says that it has nothing of that id or name, or that it cannot be one."""
    codes = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE")
    known = isinstance(error, MlflowException) and error.error_code in codes
    return known and http_status(error) is None


def sentence(error: BaseException) -> str:
    """A whole sentence about MLflow's failure, with what the user can do about it."""
    subject, clause = f"MLflow at {shown_uri()}", reason(error)
    kind = failure(error)
    if kind == Failure.ACCESS_DENIED:
        return (
            f"{subject} denies access ({clause}); set MLFLOW_TRACKING_USERNAME and "
            f"MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    if http_status(error) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return f"{subject} {clause}; raise the limit of the proxy in front of it."
    if _tls_fault(error) is not None:
        return (
            f"{subject} {clause}; for a certificate of your own set "
            f"MLFLOW_TRACKING_SERVER_CERT_PATH, for a server without TLS use http://."
        )
    if kind == Failure.NOT_MLFLOW:
        return f"{subject} {clause}; see MLFLOW_TRACKING_URI and the proxy in front of it."
    if kind == Failure.MACHINE:
        return f"this machine cannot write or open files ({clause}); {make_room()}."
    if is_locked(error):
        return (
            f"{subject} is locked by another process, and was for {sqlite_wait()} seconds; the "
            "same command resumes when it is free."
        )
    if kind == Failure.NO_ANSWER:
        return f"{subject} {clause}."
    return f"{subject}: {clause.rstrip('.')}."


def shown_uri() -> str:
    """The URI of MLflow without its password."""
    return without_password(mlflow.get_tracking_uri())


def server_timeout() -> float:
    """Seconds to wait at the end of a run for a server: $ISOGLOSS_PATIENCE or 300."""
    text = os.environ.get(PATIENCE, "300")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise ConfigError(f"{PATIENCE} must be a number of seconds but is {text!r}.")
    return seconds


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
    rest = f"in {folder}, and running the same command again sends them without recomputing them."
    if failure(error) == Failure.MACHINE:
        return TrackingError(
            f"this machine cannot write or open the files that are sent to MLflow "
            f"({reason(error)}); {make_room()}; the results are {rest}"
        )
    return TrackingError(
        f"the results could not be sent to MLflow at {shown_uri()} ({reason(error)}); they are "
        f"{rest}"
    )


@contextmanager
def no_retries() -> Iterator[None]:
    """Context in which MLflow's client does not retry; by default it does so for four minutes."""
    with _variable(_RETRIES, "0"):
        yield


@contextmanager
def in_a_hurry() -> Iterator[None]:
    """Context in which MLflow's client does not retry, nor wait two minutes for an answer.

    A process that is to end is killed 30 seconds after it was told.
    """
    with no_retries(), _variable(_TIMEOUT, str(HURRY)):
        yield


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Context in which an environment variable has a value."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and the errors that requests keeps within its own."""
    seen: list[BaseException] = []
    pending = [error]
    while pending:
        cause = pending.pop()
        if not isinstance(cause, BaseException) or cause in seen:
            continue
        seen.append(cause)
        yield cause
        pending += [cause.__cause__, cause.__context__, getattr(cause, "reason", None)]
        pending += [part for part in cause.args if isinstance(part, BaseException)]


def is_locked(error: BaseException) -> bool:
    """Whether a sqlite database was locked by another process for too long."""
    return any(
        isinstance(cause, sqlite3.OperationalError)
        and cause.sqlite_errorcode == sqlite3.SQLITE_BUSY
        for cause in _causes(error)
    )


def _machine_fault(error: BaseException | None) -> int | None:
    """The number of an error of this machine, not of what was asked for."""
    numbers = (errno_of(cause) for cause in _causes(error))
    return next((number for number in numbers if number in MACHINE_FAULTS), None)


def _tls_fault(error: BaseException | None) -> str | None:
    """What TLS found wrong, in OpenSSL's words."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            text: str = getattr(cause, "reason", None) or str(cause)
            return text.lower().replace("_", " ")
    return None
