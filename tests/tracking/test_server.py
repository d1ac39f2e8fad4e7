"""Failures of a tracking server are distinguished, and no results are lost."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException

from isogloss.errors import TrackingError
from isogloss.tracking.server import Failure, failure, no_retries, reason, uploading

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
