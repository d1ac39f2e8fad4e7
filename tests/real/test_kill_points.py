"""Entry points that are killed and run again: nothing is lost, doubled or left over.

A sample of the points; all of them with `make faults`.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from real.processes import ROOT

pytestmark = pytest.mark.real

ALL = "ISOGLOSS_FAULTS"  # set by `make faults`
SAMPLE = {"main": 3, "register": 2}  # points in the usual tests


def killed(entries: list[str], model: Path, folder: Path, *options: str) -> str:
    """What the harness prints about kills of entry points; fails if it finds anything."""
    done = subprocess.run(
        [sys.executable, "-m", "real.kill_points", *entries, "--model", str(model),
         "--folder", str(folder), *options],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}:{ROOT}",
             "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        stdout=None if ALL in os.environ else subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout or ""


@pytest.mark.skipif(ALL in os.environ, reason="all points are tried")
@pytest.mark.parametrize("entry", SAMPLE)
def test_a_killed_entry_point_is_completed_by_the_same_command(
    entry: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    count = SAMPLE[entry]
    printed = killed([entry], model_folder("gemma3"), tmp_path, "--sample", str(count))
    assert printed.splitlines()[-1] == f"{count} of {count} kill points survived"


@pytest.mark.skipif(ALL not in os.environ, reason="`make faults` tries all points")
def test_every_entry_point_is_completed_after_a_kill_at_any_point(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    options = os.environ[ALL].split()
    killed(["all"], model_folder("gemma3"), tmp_path, *options)
