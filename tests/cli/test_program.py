"""The program `isogloss` has the entry points' commands and four of its own."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import isogloss
from isogloss.cli.main import program
from isogloss.config import ENTRY_POINTS

ROOT = Path(__file__).parents[2]
OWN = ("cell", "cells", "tasks", "languages", "models", "doctor")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "isogloss", *arguments],
        cwd=ROOT / "src", capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_commands_are_those_of_the_entry_points(name: str) -> None:
    assert program.commands[name] is importlib.import_module(f"entrypoints.{name}").main


@pytest.mark.parametrize("name", ["", *OWN])
def test_help_loads_nothing_heavy(name: str) -> None:
    shown = run(*filter(None, [name]), "--help")
    assert shown.returncode == 0
    assert "--help" in shown.stdout
    assert not re.search(r"\| +(torch|mlflow|transformers|pandas)$", shown.stderr, re.MULTILINE)


def test_help_lists_the_entry_points_in_order_and_then_the_other_commands() -> None:
    shown = CliRunner().invoke(program, ["--help"]).output
    assert re.findall(r"^  (\w+)  ", shown.partition("Commands:")[2], re.MULTILINE) == [
        *ENTRY_POINTS,
        *OWN,
    ]


def test_the_version_is_shown() -> None:
    assert CliRunner().invoke(program, ["--version"]).output == (
        f"isogloss, version {isogloss.__version__}\n"
    )


def test_an_unknown_command_is_rejected_with_a_near_one() -> None:
    result = CliRunner().invoke(program, ["evalute"])
    assert result.exit_code == 2
    assert "Did you mean 'evaluate'?" in result.output


def test_a_mistake_exits_2_in_one_sentence() -> None:
    result = CliRunner().invoke(program, ["evaluate", "--limit", "0"])
    assert result.exit_code == 2
    assert "limit should be at least 1 or 'all', but got '0'." in result.output


def test_libraries_do_not_log(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "isogloss", "compare", "--study", "nothing"],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"),
             "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/new.db"},
    )  # fmt: skip
    assert result.returncode == 2
    assert re.fullmatch(
        r"Error: study 'nothing' has no finished evaluate run.*\n", result.stderr
    ), result.stderr
