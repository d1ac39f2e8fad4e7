"""The key of a server is sent as Authorization, and is nowhere else."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from isogloss.config import explain
from isogloss.config.engine import Engine
from isogloss.errors import ConfigError, ModelError
from isogloss.servers import address, client
from isogloss.servers.opening import found_kind, open_server
from isogloss.stages.served_model import served_model
from isogloss.types import EngineKind

SECRET = "sk-planted/+secret=0123456789"
MODELS = {"data": [{"id": "toy"}]}


@contextmanager
def echoing_server(status: int) -> Iterator[tuple[str, list[str | None]]]:
    """A server that repeats the key in each error; yields its address and the keys received."""
    received: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._send(200, MODELS)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            key = self.headers.get("Authorization")
            received.append(key)
            self._send(status, {"error": {"message": f"Incorrect key provided: {key}"}})

        def _send(self, code: int, content: object) -> None:
            answer = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 500])
def test_a_server_that_repeats_the_key_does_not_bring_it_into_messages_or_logs(
    status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("SERVER_KEY", SECRET)
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    caplog.set_level(logging.DEBUG)
    with echoing_server(status) as (url, received):
        engine = Engine(kind=EngineKind.OPENAI, base_url=url, key="SERVER_KEY", retries=1)
        with pytest.raises(ModelError) as error:
            open_server(engine)
    assert received[0] == f"Bearer {SECRET}"
    chained = f"{error.value} {error.value!r} {error.value.__cause__!r} {engine!r}"
    for text in (chained, caplog.text):
        assert SECRET not in text
    if status in (401, 403):
        assert "the environment variable SERVER_KEY has a key that it does not accept" in chained
    if status in (400, 422, 500):
        assert f"Incorrect key provided: Bearer {address.HIDDEN}" in chained


def test_without_a_key_the_message_names_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SERVER_KEY", raising=False)
    with echoing_server(401) as (url, received):
        with pytest.raises(ModelError, match="the environment variable SERVER_KEY has no key"):
            open_server(Engine(kind=EngineKind.OPENAI, base_url=url, key="SERVER_KEY"))
        assert received == [None]


def test_a_key_that_no_header_can_hold_is_refused_without_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SERVER_KEY", "sk-first\nsk-second")
    engine = Engine(kind=EngineKind.OPENAI, base_url="http://127.0.0.1:9/v1", key="SERVER_KEY")
    with pytest.raises(ConfigError, match="SERVER_KEY has characters") as error:
        open_server(engine)
    assert "sk-first" not in str(error.value)


@pytest.mark.parametrize(
    "url", [f"http://user:{SECRET[:9]}@host:8000/v1", f"https://{SECRET[:9]}@host/v1"]
)
def test_an_address_with_a_password_is_refused_without_it(url: str):
    with pytest.raises(ConfigError, match="has a user or a password in it") as error:
        Engine(kind=EngineKind.VLLM, base_url=url)
    assert SECRET[:9] not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:8000/v1", "http://host:8000"),
        ("http://host:8000/v1/", "http://host:8000"),
        ("http://host:8000", "http://host:8000"),
        ("https://host/prefix/v1", "https://host/prefix"),
    ],
)
def test_the_root_of_an_address(url: str, expected: str):
    assert address.root(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "host:8000/v1", "ftp://host/v1", "http:///v1", "http://host/v1?n=a", "http://host:x/v1",
        "http://host:99999/v1", "http://host:-1", "http://[", "http://[::1/v1", "http://h\0/v1",
        "http://a b/v1", "http://host:0/v1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ValidationError) as refused:
        Engine(kind=EngineKind.VLLM, base_url=url)
    assert explain(refused.value, Engine) == (
        f"base_url should be the address of a server, such as http://host:8000/v1, but got {url!r}."
    )
    model = url if url.startswith("http") else f"http://{url}"
    if model == url:
        with pytest.raises(ConfigError, match=r"is not the address of a server; expected one such"):
            served_model(f"{model}#name", None)


def test_the_key_goes_to_no_other_server(monkeypatch: pytest.MonkeyPatch):
    """A redirect is an error, so that the key is not sent where it points."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with echoing_server(307) as (url, received), pytest.raises(ModelError, match="status 307"):
        open_server(Engine(kind=EngineKind.OPENAI, base_url=url))
    assert set(received) == {f"Bearer {SECRET}"}
    with pytest.raises(ModelError):
        found_kind("http://127.0.0.1:9/v1")
