"""The command that a report gives for its next steps is one that `plan` accepts."""

import shlex
from dataclasses import replace

import pytest
from synthetic_predictions import crossed_tables, gains, pair, study, tables

from isogloss.analysis.comparison import compare
from isogloss.analysis.score_matrix import RunKey
from isogloss.config import PlanConfig
from isogloss.report.plan_command import plan_command
from isogloss.stages.plan import run_plan
from isogloss.types import Condition

SOURCE = "arb_Arab"


def planned(command: str) -> PlanConfig:
    """The configuration of a command line, as `mlflow run` would pass it."""
    words = shlex.split(command)
    assert words[:7] == ["mlflow", "run", ".", "-e", "plan", "--env-manager", "local"]
    assert words[7::2] == ["-P"] * len(words[8::2])
    return PlanConfig.model_validate(dict(word.split("=", 1) for word in words[8::2]))


def test_one_source_of_a_public_task_has_sources_and_targets_proposed(capsys):
    comparison = compare(tables(gains(0.3, 0.28), n=40), source=SOURCE, margin=0.05)
    config = planned(plan_command(comparison, "a" * 32))
    assert (config.propose, config.items, config.seeds) == ("belebele", 40, 3)
    assert config.margin_fraction == 0.05
    assert config.gain == pytest.approx(comparison.overall.mean.gain, abs=5e-4)
    assert config.like is None  # a pilot of a crossed design needs several sources
    run_plan(config)
    assert "The proposed languages are" in capsys.readouterr().out


def test_one_source_of_another_task_has_numbers_of_sources_to_try(capsys):
    made = {run: rows.assign(task="quiz") for run, rows in study(1, seeds=4, n=40).items()}
    comparison = compare(made, source=SOURCE)
    config = planned(plan_command(comparison))
    assert (config.sources, config.propose, config.seeds) == ((4, 6, 8), None, 4)
    run_plan(config)
    assert "crossed design: 40 items per language, 4 seeds" in capsys.readouterr().out


def test_a_crossed_study_is_the_pilot_of_its_plan():
    comparison = compare(crossed_tables(0.1, n=60), source="tur_Latn", margin=0.08)
    config = planned(plan_command(comparison, "b" * 32))
    assert (config.like, config.sources, config.seeds) == ("b" * 32, (4, 6, 8), 3)
    assert planned(plan_command(comparison)).like is None


def test_without_tuning_the_plan_is_of_languages(capsys):
    before, after = pair(gains(0.12, 0.1, 0.1))
    runs = {RunKey("m", Condition.BASE): before, RunKey("m", Condition.BASE_COT): after}
    comparison = compare(runs, source=SOURCE, condition=Condition.BASE_COT)
    config = planned(plan_command(comparison))
    assert (config.sources, config.propose, config.items) == (None, None, 200)
    run_plan(config)
    assert "4 related languages, 200 items per language" in capsys.readouterr().out


def test_where_nothing_was_learnt_or_all_is_settled_there_is_no_plan():
    nothing = compare(tables(gains(0.0, 0.0, 0.0)), source=SOURCE)
    assert plan_command(nothing) == ""
    crossed = compare(crossed_tables(0.0, n=60, seeds=3), source="tur_Latn", margin=0.08)
    effect = crossed.crossed.overall
    assert effect.verdict == "equivalent"
    assert plan_command(replace(crossed, crossed=replace(crossed.crossed, without=()))) == ""
