"""No run is left running by a process that is told to end, whatever happens at the same time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from real.processes import ROOT
from real.told_to_end import SCENARIOS

pytestmark = pytest.mark.real

IN_TIME = (0, 143)  # the signal waits until the run is finished, and the command may be, too
ENDED = {  # exit status, and the status of the run
    "status written": (IN_TIME, "FINISHED"),
    "status called": (IN_TIME, "FINISHED"),
    "SIGHUP twice": (129, "KILLED"),
    "SIGINT twice": (130, "KILLED"),
    "after an error": (143, "FAILED"),
    "atexit": (-15, "FINISHED"),
    "error without memory": (1, "FAILED"),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What was found after each scenario."""
    done = subprocess.run(
        [sys.executable, "-m", "real.told_to_end", "--folder", tmp_path_factory.mktemp("ends")],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}:{ROOT}",
             "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_ends_with_its_process_and_the_same_command_completes_it(
    found: dict[str, dict[str, object]], name: str
) -> None:
    status, run = ENDED.get(name, (143, "KILLED"))
    row = found[name]
    assert row["left"] == [run], row["said"]
    assert row["status"] in (status if isinstance(status, tuple) else (status,)), row["said"]
    assert row["again"] == 0
    assert row["ended"] == ["FINISHED"]  # in the same run
