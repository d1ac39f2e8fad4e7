"""Command lines: help, and mistakes told in one sentence."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from isogloss.config import ENTRY_POINTS

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
        ("evaluate", ["--task", "chess"], "'belebele' or 'files', but got 'chess'"),
        ("evaluate", ["--limit", "0"], "limit should be greater than 0 or 'all', but got '0'"),
        ("evaluate", ["--reasoning", "deep"],
         "reasoning should be 'direct' or 'cot', but got 'deep'"),
        ("evaluate", ["--task", "belebele", "--data_dir", "."], "belebele finds no language"),
        ("evaluate", ["--task", "files"], "data_dir"),
        ("evaluate", ["--format", "essay"],
         "format should be 'letter', 'cloze', 'generate' or 'auto'"),
        ("evaluate", ["--max_length", "0"], "max_length should be greater than 0 or 'auto'"),
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
        ("import", ["--path", "nowhere"], "path 'nowhere' is no file"),
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
