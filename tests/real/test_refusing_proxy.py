"""A real server behind a proxy that refuses some requests, as a team's often is."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest

from isogloss.config import EvaluateConfig
from isogloss.errors import TrackingError
from isogloss.registry.lookup import has_logged_models
from isogloss.tracking import RunKind, open_run
from isogloss.tracking.metric_log import MetricLog, read_metrics
from real.conftest import Server

pytestmark = pytest.mark.real
Refuse = Callable[[str, str, int], int | None]  # method, path, size of the body; a status or None
KEPT = ("content-type", "content-disposition")


class Handler(BaseHTTPRequestHandler):
    """Forwards each request that its server does not refuse."""

    def forward(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else None
        refused = self.server.refuse(self.command, self.path, size)  # type: ignore[attr-defined]
        if refused:
            self.answer(refused, b"<html>a proxy</html>", {})
            return
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("host", "connection", "accept-encoding")
        }
        address = self.server.target + self.path  # type: ignore[attr-defined]
        request = urllib.request.Request(address, body, headers, method=self.command)
        try:
            with urllib.request.urlopen(request) as response:
                self.answer(response.status, response.read(), dict(response.headers))
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read(), dict(error.headers))

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() in KEPT:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def proxy(
    tracking_server: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Refuse], None]]:
    """A function that puts a proxy with that rule in front of the server."""
    for name, value in {**tracking_server.environment(), "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.target = tracking_server.uri  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    mlflow.set_tracking_uri(f"http://127.0.0.1:{server.server_port}")

    def refuse(rule: Refuse) -> None:
        server.refuse = rule  # type: ignore[attr-defined]

    refuse(lambda *_: None)
    yield refuse
    server.shutdown()
    thread.join()
    server.server_close()


def log_two_hundred_steps(folder: Path, run_id: str) -> None:
    with MetricLog(folder, lambda: run_id) as metrics:
        for step in range(200):
            metrics.log(step, {"loss": 1.0})


def test_a_run_deleted_on_the_server_is_said_at_once(
    proxy: Callable[[Refuse], None], tmp_path: Path
) -> None:
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    mlflow.delete_run(run_id)
    started = time.monotonic()
    with pytest.raises(TrackingError, match="Current state is deleted"):
        log_two_hundred_steps(tmp_path, run_id)
    assert time.monotonic() - started < 30  # patience is 300 seconds
    assert len(read_metrics(tmp_path)) == 200


def test_metrics_that_are_too_large_for_a_proxy_are_sent_when_it_takes_them(
    proxy: Callable[[Refuse], None], tmp_path: Path
) -> None:
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    proxy(lambda _, path, size: 413 if path.endswith("log-batch") and size > 3000 else None)
    with pytest.raises(TrackingError, match="answers HTTP 413 Request Entity Too Large"):
        log_two_hundred_steps(tmp_path, run_id)
    proxy(lambda *_: None)
    with MetricLog(tmp_path, lambda: run_id):
        pass
    assert len(mlflow.MlflowClient().get_metric_history(run_id, "loss")) == 200


def test_artifacts_that_are_too_large_for_a_proxy_are_refused(
    proxy: Callable[[Refuse], None],
) -> None:
    def open_and_close() -> None:
        with open_run(RunKind.PLAN, "plan", EvaluateConfig(), {}):
            pass

    proxy(lambda method, *_: 413 if method == "PUT" else None)
    with pytest.raises(TrackingError, match=r"HTTP 413 .*; raise the limit of the proxy"):
        open_and_close()


def test_a_server_without_logged_models_is_told_from_one_that_has_them(
    proxy: Callable[[Refuse], None],
) -> None:
    assert has_logged_models("0")
    proxy(lambda _, path, __: 404 if "logged-models" in path else None)
    assert not has_logged_models("0")
