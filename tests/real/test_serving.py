"""`mlflow models serve` on a registered adapter of a tiny model, asked over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
import requests
from conftest import kept_store, probe

from isogloss.config import FinetuneConfig
from isogloss.registry.register import register
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.tasks import Item

pytestmark = pytest.mark.real
URI = "models:/reader@champion"
TRAINING = {"steps": 2, "batch_size": 4, "limit": 8, "dev_limit": 4, "rank": 2, "alpha": 4}
COLUMNS = ("passage", "question", "options", "language")
Post = Callable[[Any], requests.Response]


@pytest.fixture(scope="module")
def store(
    model_folder: Callable[[str], Path], empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The URI of a store that has a registered adapter."""
    config = FinetuneConfig(
        model=str(model_folder("gemma3")), dtype="float32", format="letter",
        prompt_language="target", **TRAINING,
    )  # fmt: skip
    with kept_store(empty_store, tmp_path_factory.mktemp("serving")) as uri:
        trained = finetune(config, Session(config.model, "float32"))
        register(trained.data.tags["isogloss.adapter_uri"], "reader", "champion")
    return uri


@dataclass(frozen=True)
class Server:
    """A server that answers at an address."""

    address: str
    process: int
    log: Path

    def ask(self, content: bytes) -> requests.Response:
        """The answer to the bytes of a request."""
        return requests.post(
            f"{self.address}/invocations", data=content, timeout=60,
            headers={"Content-Type": "application/json"},
        )  # fmt: skip

    def memory(self) -> int:
        """Bytes that its processes have in memory."""
        parent = psutil.Process(self.process)
        return sum(own.memory_info().rss for own in (parent, *parent.children(recursive=True)))


@pytest.fixture(scope="module")
def server(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the registered adapter; no process is left running afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    folder = tmp_path_factory.mktemp("elsewhere")
    clean = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and not name.startswith("MLFLOW_")
    }
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    log = folder / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            ["mlflow", "models", "serve", "-m", URI, "--env-manager", "local",
             "-h", "127.0.0.1", "-p", str(port)],
            cwd=folder, env={**clean, "PATH": search, "MLFLOW_TRACKING_URI": store},
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        wait(address, server, log)
        yield Server(address, server.pid, log)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
    until = time.monotonic() + 30
    while running(server.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not running(server.pid)


def test_a_server_says_nothing_that_would_alarm(server: Server) -> None:
    said = server.log.read_text()
    assert "pip install" not in said, said
    assert "Warning" not in said, said


@pytest.fixture
def post(server: Server) -> Post:
    """A function that sends a body to the server's /invocations."""
    return lambda body: requests.post(f"{server.address}/invocations", json=body, timeout=60)


def wait(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when the server answers; if it does not, fail with its output."""
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        try:
            if requests.get(f"{address}/ping", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    pytest.fail(f"the server does not answer: {log.read_text()[-3000:]}")


def running(group: int) -> bool:
    """Whether a process group has a process left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def row(item: Item) -> dict[str, Any]:
    return {**{name: getattr(item, name) for name in COLUMNS}, "options": list(item.options)}


def rows() -> list[dict[str, Any]]:
    """Questions in four languages."""
    return [row(probe(code, "test", 1)[0]) for code in ("arb_Arab", "heb_Hebr", "eng_Latn")] + [
        row(probe("fra_Latn", "test", 2)[1])
    ]


def without(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key != name}


def by_column(given: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [one[name] for one in given] for name in COLUMNS}


BODIES: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "dataframe_records": lambda given: {"dataframe_records": given},
    "dataframe_split": lambda given: {
        "dataframe_split": {
            "columns": COLUMNS,
            "data": [[one.get(name) for name in COLUMNS] for one in given],
        }
    },
    "inputs by row": lambda given: {"inputs": given},
}


@pytest.mark.parametrize("body", BODIES)
def test_good_rows_are_answered_as_load_model_does_and_bad_ones_named(
    post: Post, store: str, body: str
) -> None:
    good = rows()
    expected = mlflow.pyfunc.load_model(local_model(store)).predict(good).to_dict("records")
    bad = [
        ({**good[0], "question": 5}, "question must be text but is 5."),
        (without("passage", good[1]), "passage must be text, empty where there is none, but is mi"),
        ({**good[2], "options": "A, B"}, "options must be a list of 2 to 26 texts but is 'A, B'."),
        ({**good[2], "options": ["x", 3]}, "options[1] must be text but is 3."),
        ({**good[3], "language": "ace_Arab"}, "language 'ace_Arab' has no wording for prompts"),
        ({**good[3], "passage": "un livre " * 4000}, "passage, question and options must fit the"),
        ({**good[3], "question": "\ud800"}, "question must be text but holds half of a surrogate"),
    ]
    mixed = [bad[0][0], good[0], bad[1][0], bad[2][0], good[1], bad[3][0], bad[4][0], *good[2:]]
    response = post(BODIES[body]([*mixed, bad[5][0], bad[6][0]]))
    assert response.status_code == 200, response.text
    answers = response.json()["predictions"]
    wrong = [answers[at] for at in (0, 2, 3, 5, 6, 9, 10)]
    for answer, (_, message) in zip(wrong, bad, strict=True):
        assert answer.pop("error").startswith(message)
        assert answer == {
            "choice": -1, "answer": None, "probabilities": [], "valid": False, "text": None,
        }  # fmt: skip
    right = [answers[at] for at in (1, 4, 7, 8)]
    for answer, theirs in zip(right, expected, strict=True):
        probabilities = theirs.pop("probabilities")
        assert answer.pop("probabilities") == pytest.approx(probabilities, abs=1e-6)
        assert answer == theirs


def test_inputs_by_column_are_rows_too(post: Post) -> None:
    answers = [post(body).json() for body in ({"inputs": by_column(rows())}, {"inputs": rows()})]
    assert answers[0] == answers[1]
    assert len(answers[0]["predictions"]) == 4


MOST_GROWTH = 200  # MB of memory that hostile requests may leave behind, however many


def ask_in_vain(server: Server) -> None:
    """Send what is refused: deep JSON, a text of 10 MB, bytes that no parser reads, too many bytes."""
    deep = ['{{"dataframe_records": [{{"passage": {}}}]}}', '{{"inputs": {}}}', "{}"]
    for depth in (1000, 100_000):
        for body in deep:
            answer = server.ask(body.format("[" * depth + "]" * depth).encode())
            assert answer.status_code == 400
            assert "nested too deeply" in answer.json()["message"]
    long = {**rows()[0], "passage": "a b " * 2_600_000}
    began = time.monotonic()
    (refused,) = server.ask(json.dumps({"dataframe_records": [long]}).encode()).json()[
        "predictions"
    ]
    assert refused["error"].startswith("passage, question and options have 10,4")
    assert time.monotonic() - began < 10
    for content in (b"[" * 10_400_000, b'"' + b"a" * 10_400_000):
        answer = server.ask(content)
        assert answer.status_code == 400
        assert len(answer.content) < 5000
    answer = server.ask(b" " * (64 * 2**20 + 1))
    assert answer.status_code == 413, answer.text[:500]
    assert answer.json()["message"] == "A request has at most 67,108,864 bytes; send fewer rows."


def test_hostile_requests_are_refused_in_words_and_leave_no_memory(server: Server) -> None:
    good = json.dumps({"dataframe_records": rows()}).encode()
    expected = server.ask(good).json()
    before = server.memory()
    growth = []
    for _ in range(3):
        ask_in_vain(server)
        growth.append((server.memory() - before) / 2**20)
    assert server.ask(good).json() == expected
    assert growth[-1] < MOST_GROWTH, growth
    assert growth[-1] - growth[0] < MOST_GROWTH / 4, growth


def test_a_column_that_no_row_has_is_refused_by_name(post: Post) -> None:
    response = post({"dataframe_records": [without("question", one) for one in rows()]})
    assert response.status_code == 400
    assert "Model is missing inputs ['question']" in response.json()["message"]


def test_requests_that_come_at_once_are_answered_as_one_after_another(post: Post) -> None:
    bodies = [{"dataframe_records": [one]} for one in rows()] * 4
    alone = [post(body).json() for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        assert [answer.json() for answer in pool.map(post, bodies)] == alone


def local_model(store: str) -> str:
    """The folder of the registered model, from that store."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store)
    folder = str(mlflow.artifacts.download_artifacts(URI))
    mlflow.set_tracking_uri(before)
    return folder
