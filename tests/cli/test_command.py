"""Command lines: help, and user errors in one sentence."""

import errno
import importlib
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import mlflow
import pytest
import requests
from click.testing import CliRunner
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from pydantic import BaseModel

from isogloss.cli.command import CHATTY, stage_command, start
from isogloss.config import ENTRY_POINTS
from isogloss.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_help_names_every_parameter_without_loading_what_is_heavy(name: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"entrypoints.{name}", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for parameter in ENTRY_POINTS[name].model_fields:
        assert f"--{parameter} " in shown.stdout
    assert not re.search(r"\| +(torch|mlflow|transformers)$", shown.stderr, re.MULTILINE)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_unknown_parameter_is_refused_by_name(name: str) -> None:
    command = importlib.import_module(f"entrypoints.{name}").main
    result = CliRunner().invoke(command, ["--no_such_thing", "1"])
    assert result.exit_code == 2
    assert "--no_such_thing" in result.output


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("evaluate", ["--task", "chess"], "'afrixnli' or 'files', but got 'chess'."),
        ("evaluate", ["--limit", "0"], "limit should be at least 1 or 'all', but got '0'"),
        ("evaluate", ["--reasoning", "deep"],
         "reasoning should be 'direct' or 'cot', but got 'deep'"),
        ("evaluate", ["--task", "belebele", "--data_dir", "."], "belebele finds no language"),
        ("evaluate", ["--task", "files", "--source", "eng_Latn"], "'files' needs data_dir"),
        ("evaluate", ["--task", "files"],
         "source should be the language fine-tuned on, a FLORES-200 code such as arb_Arab (required with"),
        ("evaluate", ["--format", "essay"],
         "format should be 'letter', 'cloze', 'generate' or 'auto'"),
        ("evaluate", ["--max_length", "0"], "max_length should be at least 1 or 'auto'"),
        ("main", ["--study", f"{ROOT}/configs/demo.yaml", "--reasoning", "deep"],
         "reasoning should be 'direct', 'cot' or 'both'"),
        ("evaluate", ["--languages", "heb_Hebr,xxx_Latn"], "unknown language 'xxx_Latn'"),
        ("evaluate", ["--languages", "kor_Hang"], "has no language 'kor_Hang'; it has amh_Ethi"),
        ("evaluate", ["--source", "klingon"], "unknown language 'klingon'"),
        ("evaluate", ["--task", "sib200", "--data_dir", "nowhere"], "'nowhere' is not a folder"),
        ("evaluate", ["--model", "nowhere/at-all"], "model 'nowhere/at-all' is neither"),
        ("evaluate", ["--adapter", "nowhere"], "adapter 'nowhere' is neither a folder"),
        ("finetune", ["--learning_rate", "-1"], "learning_rate should be greater than 0"),
        ("finetune", ["--source", "kor_Hang"], "has no language 'kor_Hang'"),
        ("tune", ["--space", "nowhere.yaml"], "space 'nowhere.yaml' cannot be read"),
        ("finetune", ["--recipe", "nowhere.yaml"], "recipe 'nowhere.yaml' cannot be read"),
        ("compare", ["--study", "nothing"], "study 'nothing' has no finished evaluate run"),
        ("compare", ["--experiment", "nothing"], "there is no experiment 'nothing'"),
        ("register", ["--adapter", "nowhere"], "adapter 'nowhere' is neither a folder"),
        ("import", ["--path", "nowhere"], "path 'nowhere' is not a file"),
        ("main", ["--study", "nowhere.yaml"], "'nowhere.yaml' cannot be read"),
    ],
)  # fmt: skip
def test_a_mistake_exits_2_in_one_sentence_before_a_run_is_opened(
    name: str, arguments: list[str], message: str
) -> None:
    import mlflow

    result = CliRunner().invoke(importlib.import_module(f"entrypoints.{name}").main, arguments)
    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert "Traceback" not in result.output
    assert mlflow.search_runs(search_all_experiments=True).empty


class Small(BaseModel):
    """A small configuration."""

    count: int = 3


def small(error: Exception | None = None) -> click.Command:
    """A command that logs at three levels, prints, and raises an error if it is set."""

    def body(config: Small) -> None:
        logger = logging.getLogger("isogloss.small")
        logger.debug("detail")
        logger.info("progress")
        logger.warning("caution")
        print(f"count {config.count}")
        if error is not None:
            raise error

    return stage_command("small", Small, body)


@pytest.fixture
def restored() -> Iterator[None]:
    """The logger as it was, and the libraries' too."""
    loggers = [logging.getLogger(name) for name in ("isogloss", *CHATTY)]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], ["progress", "caution"]),
        (["--quiet"], ["caution"]),
        (["-v"], ["detail", "progress", "caution"]),
    ],
)
def test_levels_decide_what_is_logged_and_results_are_always_printed(
    options: list[str], shown: list[str]
) -> None:
    result = CliRunner().invoke(small(), options)
    assert result.exit_code == 0
    assert result.stdout == "count 3\n"
    last_words = [line.split()[-1] for line in result.stderr.splitlines()]
    assert [word for word in last_words if word in ("detail", "progress", "caution")] == shown
    assert ("-e small" in result.stderr) == ("-v" in options)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_verbose_and_quiet_are_options_of_every_entry_point_and_exclude_each_other(
    name: str,
) -> None:
    command = importlib.import_module(f"entrypoints.{name}").main
    required = {"register": ["--adapter", "a"], "import": ["--path", "p"]}.get(name, [])
    result = CliRunner().invoke(command, [*required, "--verbose", "--quiet"])
    assert result.exit_code == 2
    assert "--verbose and --quiet exclude each other." in result.output


@pytest.mark.usefixtures("restored")
def test_errors_of_the_user_and_of_the_server_exit_2_and_others_are_raised() -> None:
    result = CliRunner().invoke(small(ConfigError("x should be y.")))
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, "Error: x should be y.")
    denied = MlflowException("who are you?", error_code=PERMISSION_DENIED)
    result = CliRunner().invoke(small(denied))
    assert result.exit_code == 2
    assert "denies access (who are you?); set MLFLOW_TRACKING_USERNAME and" in result.stderr
    result = CliRunner().invoke(small(requests.ConnectionError("refused")))
    assert result.exit_code == 2
    assert "does not answer." in result.stderr
    bug = ZeroDivisionError("a bug")
    assert CliRunner().invoke(small(bug)).exception is bug
    result = CliRunner().invoke(small(MlflowException("something else\nsecond line")))
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        2, f"Error: MLflow at {mlflow.get_tracking_uri()}: something else."
    )  # fmt: skip
    result = CliRunner().invoke(small(OSError(errno.ENOSPC, "No space left on device", "x.db")))
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        2, "Error: No space left on device: x.db."
    )  # fmt: skip
    result = CliRunner().invoke(small(OSError(errno.ENOSPC, "No space left on device")))
    assert result.stderr.splitlines()[-1] == (
        "Error: No space left on device; make room, or set TMPDIR "
        f"(now {tempfile.gettempdir()}) to another folder."
    )
    other = OSError(errno.EIO, "Input/output error")
    assert CliRunner().invoke(small(other)).exception is other


@pytest.mark.usefixtures("restored")
def test_only_the_first_of_several_processes_reports_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["small", "--count", "many"])
    monkeypatch.setattr("isogloss.cli.command.UNTIL_REPORTED", 0.1)
    for rank, message in [("0", "count should be an integer, but got 'many'."), ("1", "")]:
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as caught:
            start(small(), "small")
        assert caught.value.code == 2
        shown = capsys.readouterr().err
        assert message in shown if message else not shown


def test_a_program_ends_without_a_search_for_garbage() -> None:
    code = """
import gc
import click
from isogloss.cli.command import start
class Kept:
    def __del__(self):
        print("searched")
@click.command()
def small():
    kept = Kept()
    kept.itself = kept
    click.echo("ran")
gc.disable()
start(small, "small")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "ran\n"
