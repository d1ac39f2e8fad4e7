"""Signals that ask a command to end: its run is killed, and one line says how to resume."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from isogloss.cli import interruptions
from isogloss.cli.command import stage_command
from isogloss.cli.interruptions import ENDING
from isogloss.compat.mlflow import sqlite_wait, wait_for_sqlite
from isogloss.config import EvaluateConfig
from isogloss.tracking import RunKind, open_run
from isogloss.tracking.resume import kept, locked_work_dir, work_root
from isogloss.tracking.server import LOCKED

NUMBERS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """Receive the signals, which a shell makes commands ignore that it runs in the background."""
    before = {number: signal.getsignal(number) for number, _ in NUMBERS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    wait_for_sqlite(LOCKED)
    for number, handler in before.items():
        signal.signal(number, handler)


class Nothing(BaseModel):
    """Nothing."""


@pytest.mark.parametrize(("number", "status"), NUMBERS)
def test_a_signal_ends_the_run_as_killed_with_one_line(number: signal.Signals, status: int) -> None:
    def work(_: Nothing) -> None:
        config = EvaluateConfig()
        with (
            locked_work_dir(RunKind.EVALUATE, "f" * 64) as work,
            open_run(RunKind.EVALUATE, "base", config, {}, None, work),
        ):
            (work.folder / "heb_Hebr.parquet").touch()
            os.kill(os.getpid(), number)

    kept.clear()
    before = [signal.getsignal(each) for each, _ in NUMBERS]
    result = CliRunner().invoke(stage_command("work", Nothing, work), [])
    assert result.exit_code == status
    folder = work_root() / "evaluate-ffffffffffff"
    assert result.stderr.splitlines()[-1] == (
        f"Interrupted by {number.name}: what was computed is in {folder}, and the same command "
        "resumes from there."
    )
    assert sqlite_wait() == ENDING
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert run.info.status == "KILLED"
    assert [signal.getsignal(each) for each, _ in NUMBERS] == before


def test_a_signal_for_which_there_is_no_memory_ends_the_run_as_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(_: float) -> None:
        raise MemoryError

    def work(_: Nothing) -> None:
        with open_run(RunKind.EVALUATE, "base", EvaluateConfig(), {}):
            monkeypatch.setattr(interruptions, "_alarm_after", no_memory)
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                monkeypatch.undo()

    assert CliRunner().invoke(stage_command("work", Nothing, work), []).exit_code == 143
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert run.info.status == "KILLED"


def test_before_anything_is_computed_the_line_names_no_folder() -> None:
    def work(_: Nothing) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    kept.clear()
    result = CliRunner().invoke(stage_command("work", Nothing, work), [])
    assert result.exit_code == 143
    assert result.stderr == (
        "Interrupted by SIGTERM: the same command resumes what has not finished.\n"
    )


@pytest.mark.real
def test_a_signal_that_is_ignored_stays_ignored() -> None:
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from isogloss.cli.interruptions import interruptions\n"
        "with interruptions():\n    signal.raise_signal(signal.SIGHUP)\nprint('alive')"
    )
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True)
    assert done.stdout == "alive\n"
