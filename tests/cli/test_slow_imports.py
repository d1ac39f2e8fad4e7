"""Commands that need no model import nothing that takes seconds, so that they answer at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL_LIBRARIES = {"torch", "transformers", "peft", "optuna", "datasets"}
CODE = """
import json, sys
from click.testing import CliRunner
from isogloss.cli.main import program
results = [CliRunner().invoke(program, words) for words in json.loads(sys.argv[1])]
print(json.dumps([[result.exit_code, result.output[-300:]] for result in results]))
print(json.dumps(sorted(set(sys.modules) & set(json.loads(sys.argv[2])))))
"""


def imported(
    commands: list[list[str]], looked_for: set[str]
) -> tuple[list[list[object]], set[str]]:
    """Exit codes and ends of the output of commands in one process, and what it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(commands), json.dumps(sorted(looked_for))],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    outcomes, modules = done.stdout.splitlines()[-2:]
    return json.loads(outcomes), set(json.loads(modules))


def test_help_tables_and_refusals_of_parameters_import_no_mlflow() -> None:
    commands = [
        ["--help"],
        ["main", "--help"],
        ["languages", "--branch", "Semitic"],
        ["tasks"],
        ["evaluate", "--limit", "few"],
        ["evaluate", "--no_such", "1"],
        ["finetune", "--steps", "0"],
    ]
    outcomes, modules = imported(commands, MODEL_LIBRARIES | {"mlflow", "pandas", "matplotlib"})
    assert [code for code, _ in outcomes] == [0, 0, 0, 0, 2, 2, 2], outcomes
    assert modules == set()


@pytest.mark.filterwarnings("ignore")
def test_compare_of_nothing_and_plan_import_no_library_of_models() -> None:
    commands = [["compare"], ["plan", "--control", "8"], ["plan", "--sources", "4"]]
    outcomes, modules = imported(commands, MODEL_LIBRARIES)
    assert [code for code, _ in outcomes] == [2, 0, 0], outcomes
    assert modules == set()
