"""Entry points in separate processes, slowed down so that tests can interrupt them at a step, and servers."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Environment variables of a process that uses this test's MLflow store."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
    }


SLOWLY = """
import json, sys, time
from isogloss import logs
from isogloss.hpo import storage
from isogloss.training import loop as training
storage.HEARTBEAT, storage.GRACE = 1, 4
accumulate = training._accumulate_gradients
def slow(*args):
    time.sleep({pause})
    return accumulate(*args)
training._accumulate_gradients = slow
from isogloss.config import {config}
from isogloss.errors import IsoglossError
from isogloss.stages.{module} import {entry}
logs.configure()
try:
    {entry}({config}(**json.loads(sys.argv[1])))
except IsoglossError as error:
    sys.exit(str(error))
"""


@contextmanager
def started(
    entry: str, pause: float, settings: dict[str, object], **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Start an entry point in a process that pauses before each training step.

    The process is killed at the end of the context if it still runs.
    """
    names = {
        "tune": ("tune", "TuneConfig"),
        "finetune": ("finetune", "FinetuneConfig"),
        "evaluate": ("evaluate_adapters", "EvaluateConfig"),
        "main": ("study", "MainConfig"),
    }
    module, config = names[entry]
    code = SLOWLY.format(pause=pause, module=module, config=config, entry=f"run_{entry}")
    worker = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(settings)],
        env={**environment(), **variables}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()


def finished(worker: subprocess.Popen[str], seconds: float = 300) -> tuple[str, str]:
    """Wait for a process to succeed; return its standard output and standard error."""
    stdout, stderr = worker.communicate(timeout=seconds)
    assert worker.returncode == 0, stderr[-3000:]
    return stdout, stderr


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.05)


def last_step() -> int:
    """The last step that the running training has logged."""
    lines = [
        json.loads(line)["step"]
        for path in Path("unfinished").glob("finetune-*/metrics.jsonl")
        for line in path.read_text("utf-8").splitlines()
    ]
    return max(lines, default=0)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, log: Path, path: str = "/health") -> Iterator[int]:
    """Run a server until it answers; yields its process id."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
                time.sleep(0.1)
        yield process.pid
    finally:
        process.kill()
        process.wait()
