"""Entry points that are killed and run again, or run twice at once: nothing is lost, doubled or left.

A sample of the kill points; all of them, and pairs of commands at once, with `make faults`.
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


def printed_by(module: str, *words: str, model: Path, folder: Path) -> str:
    """What a harness prints; fails if it finds anything wrong."""
    done = subprocess.run(
        [sys.executable, "-m", f"real.{module}", *words, "--model", str(model),
         "--folder", str(folder)],
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
    printed = printed_by(
        "kill_points", entry, "--sample", str(count),
        model=model_folder("gemma3"), folder=tmp_path,
    )  # fmt: skip
    assert printed.splitlines()[-1] == f"{count} of {count} kill points survived"


ONLY_ALL = pytest.mark.skipif(ALL not in os.environ, reason="`make faults` tries all points")


@ONLY_ALL
def test_every_entry_point_is_completed_after_a_kill_at_any_point(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    options = os.environ[ALL].split()
    printed_by("kill_points", "all", *options, model=model_folder("gemma3"), folder=tmp_path)


@ONLY_ALL
def test_an_evaluation_that_is_told_to_end_anywhere_is_completed_in_its_own_run(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    printed_by(
        "kill_points", "evaluate", "--terminate", model=model_folder("gemma3"), folder=tmp_path
    )


@ONLY_ALL
def test_two_at_once_leave_what_they_leave_in_turn(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    printed_by("twice_at_once", model=model_folder("gemma3"), folder=tmp_path)
