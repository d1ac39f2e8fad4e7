"""Entry points in processes of their own, slow enough to be caught at a step."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Of a process that uses this test's store."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
    }


SLOWLY = """
import json, sys, time
from isogloss.hpo import storage
from isogloss.training import loop as training
storage.HEARTBEAT, storage.GRACE = 1, 4
accumulate = training._accumulate_gradients
def slow(*given):
    time.sleep({pause})
    return accumulate(*given)
training._accumulate_gradients = slow
from isogloss.config import {config}
from isogloss.errors import IsoglossError
from isogloss.stages.{module} import {entry}
try:
    {entry}({config}(**json.loads(sys.argv[1])))
except IsoglossError as error:
    sys.exit(str(error))
"""


@contextmanager
def started(
    entry: str, pause: float, settings: dict[str, object], **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """An entry point in a process of its own, with a pause before each step of training.

    It is killed at the end, if it still runs.
    """
    names = {
        "tune": ("tune", "TuneConfig"),
        "finetune": ("finetune", "FinetuneConfig"),
        "evaluate": ("evaluate", "EvaluateConfig"),
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


def finished(worker: subprocess.Popen[str], seconds: float = 120) -> tuple[str, str]:
    """What a process that ends well prints, and what it says on the way."""
    said, complained = worker.communicate(timeout=seconds)
    assert worker.returncode == 0, complained[-3000:]
    return said, complained


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def last_step() -> int:
    """The step that the training under way has reached."""
    lines = [
        json.loads(line)["step"]
        for path in Path("unfinished").glob("finetune-*/metrics.jsonl")
        for line in path.read_text("utf-8").splitlines()
    ]
    return max(lines, default=0)
