"""Failures of a tracking server are distinguished, and no results are lost."""

import errno
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException

from isogloss.compat.mlflow import wait_for_sqlite
from isogloss.errors import TrackingError
from isogloss.tracking.server import (
    LOCKED,
    Failure,
    failure,
    hides_artifacts,
    is_locked,
    no_retries,
    reason,
    sentence,
    uploading,
)

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


class Handler(BaseHTTPRequestHandler):
    """Answers every request with the status in its server's `status` and a page of HTML."""

    def do_GET(self) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(b"<html>not MLflow</html>")

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def error_from(uri: str) -> MlflowException:
    with no_retries(), pytest.raises(MlflowException) as raised:
        mlflow.MlflowClient(uri).get_run("0" * 32)
    return raised.value


@pytest.mark.parametrize(
    ("status", "expected", "clause"),
    [
        (200, Failure.NOT_MLFLOW, "answers with a page that is not MLflow's"),
        (401, Failure.ACCESS_DENIED, "answers HTTP 401 Unauthorized"),
        (403, Failure.ACCESS_DENIED, "answers HTTP 403 Forbidden"),
        (404, Failure.NOT_MLFLOW, "answers HTTP 404 Not Found"),
        (413, Failure.NOT_MLFLOW, "answers HTTP 413 Request Entity Too Large"),
        (500, Failure.NOT_MLFLOW, "answers HTTP 500 Internal Server Error"),
        (502, Failure.NOT_MLFLOW, "answers HTTP 502 Bad Gateway"),
        (503, Failure.NOT_MLFLOW, "answers HTTP 503 Service Unavailable"),
        (599, Failure.NOT_MLFLOW, "answers HTTP 599"),
    ],
)
def test_a_page_that_is_not_mlflows_is_told_from_silence(
    server: HTTPServer, status: int, expected: Failure, clause: str
) -> None:
    server.status = status  # type: ignore[attr-defined]
    error = error_from(f"http://127.0.0.1:{server.server_port}")
    assert failure(error) == expected
    assert reason(error) == clause


def test_a_closed_port_is_no_answer(server: HTTPServer) -> None:
    error = error_from("http://127.0.0.1:9")
    assert failure(error) == Failure.NO_ANSWER
    assert reason(error) == "does not answer"


def test_an_error_of_the_store_keeps_its_own_first_line() -> None:
    with pytest.raises(MlflowException) as raised:
        mlflow.get_run("0" * 32)
    assert failure(raised.value) == Failure.OTHER
    assert reason(raised.value) == f"Run with id={'0' * 32} not found"
    assert reason(OSError("disk full\nsecond line")) == "disk full"
    assert reason(OSError()) == "OSError()"


def test_a_request_that_is_still_retried_is_no_answer() -> None:
    assert failure(None) == failure(requests.ConnectionError("refused")) == Failure.NO_ANSWER


def test_an_upload_that_fails_names_the_folder_of_the_results(tmp_path: Path) -> None:
    message = rf"\(disk full\); they are in {tmp_path},"
    with pytest.raises(TrackingError, match=message), uploading(tmp_path):
        raise OSError("disk full")
    with pytest.raises(ValueError, match="a bug"), uploading(tmp_path):
        raise ValueError("a bug")


def test_no_retries_restores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with no_retries():
        assert os.environ[RETRIES] == "0"
    assert RETRIES not in os.environ
    monkeypatch.setenv(RETRIES, "3")
    with no_retries():
        assert os.environ[RETRIES] == "0"
    assert os.environ[RETRIES] == "3"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/tmp/x"),
        MlflowException(
            "The following failures occurred:\n##### a #####\n[Errno 28] No space left"
        ),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a'")]),
    ],
)
def test_a_full_disk_says_nothing_about_artifacts(error: Exception) -> None:
    assert failure(error) == Failure.MACHINE
    assert hides_artifacts(error)
    assert sentence(error) == (
        "this machine cannot write or open files (No space left on device); make room, or set "
        f"TMPDIR (now {tempfile.gettempdir()}) to another folder."
    )


@pytest.mark.parametrize(
    ("error", "hidden"),
    [
        (MlflowException("API request failed with exception ..."), False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
        (MlflowException("API request to x failed with error code 404 != 200."), False),
        (MlflowException("API request to x failed with error code 502 != 200."), True),
        (MlflowException("API request to x failed with error code 403 != 200."), True),
        (requests.ConnectionError("refused"), True),
    ],
)
def test_what_an_error_says_about_artifacts(error: Exception, hidden: bool) -> None:
    assert hides_artifacts(error) == hidden


def test_a_locked_database_is_waited_for_and_then_named(tmp_path: Path) -> None:
    wait_for_sqlite(2)
    url = f"sqlite:///{tmp_path}/own.db"
    client = mlflow.MlflowClient(url)
    experiment = client.create_experiment("e", artifact_location=str(tmp_path))
    holder = sqlite3.connect(tmp_path / "own.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    try:
        with pytest.raises(MlflowException) as raised:
            client.create_run(experiment)
        said = sentence(raised.value)
    finally:
        wait_for_sqlite(LOCKED)
        holder.execute("COMMIT")
        holder.close()
    assert 2 <= time.monotonic() - began < 15  # MLflow's own limit is 20 seconds
    assert is_locked(raised.value)
    assert said.endswith(
        "is locked by another process, and was for 2 seconds; the same command resumes when it is "
        "free."
    )
    assert client.create_run(experiment).info.status == "RUNNING"
