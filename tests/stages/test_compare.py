"""What a compare run leaves: verdict, claims, numbers and report; and when it is reused."""

import sqlite3
from itertools import product
from pathlib import Path

import mlflow
import pytest
from logged_runs import log_run, log_runs
from mlflow.entities import Run
from synthetic_predictions import (
    CONTROL,
    CROSSED_SOURCES,
    CROSSED_TARGETS,
    RELATED,
    crossed_tables,
    gains,
    study,
    tables,
)

from isogloss.analysis.score_matrix import RunKey
from isogloss.config import CompareConfig, PlanConfig
from isogloss.errors import ConfigError, DataError
from isogloss.stages.collect_runs import collect_runs
from isogloss.stages.compare import plan_comparison, run_compare
from isogloss.stages.plan import run_plan
from isogloss.types import Condition

BASE = RunKey("m", Condition.BASE)
TUNED = RunKey("m", Condition.TUNED, "arb_Arab", "0")


def compare_run_list() -> list[Run]:
    runs: list[Run] = mlflow.search_runs(
        filter_string="tags.`isogloss.kind` = 'compare'", output_format="list"
    )
    return runs


@pytest.mark.real
def test_a_compare_run_has_verdict_claims_numbers_and_report_and_is_reused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_runs(study(5, seeds=1, n=40))
    run_compare(CompareConfig(source="arb_Arab"))
    output = capsys.readouterr().out
    (run,) = compare_run_list()
    tags = run.data.tags
    note, answer = tags["mlflow.note.content"], tags["isogloss.answer"]
    assert "\n- C3: Open: both gains are shown neither equal nor different in every model." in note
    assert note.startswith("No difference seen: ")
    assert set(answer.splitlines()) <= set(note.splitlines())
    assert answer in output
    assert "- Sensitivity: " in note
    assert "Sensitivity: " not in output  # checks are in the report
    claims = [f"{claim} {tags[f'isogloss.verdict_{claim}']}" for claim in ("C1", "C2", "C3")]
    assert output.splitlines()[-3].endswith(": " + " · ".join(claims))
    assert output.splitlines()[-2] == "verdict: no difference seen"
    assert output.splitlines()[-1].startswith("report: ")
    assert tags["isogloss.model"] == ", ".join(f"model-{m}" for m in range(5))
    assert tags["isogloss.adapter"] == "several"
    assert tags["isogloss.verdict"] == tags["isogloss.verdict_C1"]
    assert tags["isogloss.verdict_C2"]
    for name in (
        *("contrast/accuracy", "baseline_slope/models", "cot_slope/models"),
        *("double_difference/eng_Latn", "adjusted/baseline", "distance/p"),
    ):
        assert name in run.data.metrics
    artifacts = mlflow.artifacts.list_artifacts(run_id=run.info.run_id, artifact_path="report")
    assert {"report/report.html", "report/report.md", "report/gains.csv"} <= {
        artifact.path for artifact in artifacts
    }
    run_compare(CompareConfig(source="arb_Arab"))
    assert capsys.readouterr().out == output
    mlflow.MlflowClient().delete_tag(run.info.run_id, "isogloss.answer")  # an earlier version
    run_compare(CompareConfig(source="arb_Arab"))
    assert note in capsys.readouterr().out
    assert len(compare_run_list()) == 1
    log_run(RunKey("model-9", Condition.BASE), study(1, n=40)[RunKey("model-0", Condition.BASE)])
    run_compare(CompareConfig(source="arb_Arab"))
    assert "Model model-9 is left out: it has no tuned run" in capsys.readouterr().out


@pytest.mark.usefixtures("no_figures")
def test_the_tags_describe_the_comparison() -> None:
    ids = log_runs(tables(gains(0.1, 0.05), n=20), study="s")
    run_compare(CompareConfig(study="s"))
    (run,) = compare_run_list()
    expected = {
        "task": "belebele", "format": "letter", "prompt_version": "2", "prompt_language": "english",
        "model": "m", "source": "arb_Arab", "adapter": "marb_Arab0", "reasoning": "direct",
        "condition": "tuned", "against": "base", "study": "s",
        "cells": f"{ids[BASE]} {ids[TUNED]}",
    }  # fmt: skip
    tags = {name: run.data.tags[f"isogloss.{name}"] for name in expected}
    assert tags == expected
    assert run.data.tags["isogloss.verdict_C3"] == "not tested"


@pytest.mark.parametrize(("effect", "verdict"), [(0.1, "related gain more"), (0.0, "equivalent")])
def test_the_runs_of_all_sources_make_one_crossed_comparison_whose_verdict_is_that_of_c1(
    effect: float, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log_runs(crossed_tables(effect, n=60), study="c")
    run_compare(CompareConfig(study="c", source="tur_Latn", margin=0.08))
    (run,) = compare_run_list()
    tags, metrics = run.data.tags, run.data.metrics
    assert tags["isogloss.verdict"] == tags["isogloss.verdict_C1"] == verdict
    assert tags["isogloss.source"] == "tur_Latn"
    assert len(tags["isogloss.cells"].split()) == 5  # the base model and four sources
    assert metrics["crossed/sources"] == 4
    assert metrics["crossed/matchings"] == 24
    assert metrics["crossed/kinship_low"] < effect < metrics["crossed/kinship_high"]
    assert {"crossed_source/arb_Arab", "crossed/at_equal_same_script"} <= set(metrics)
    files = mlflow.artifacts.list_artifacts(run_id=run.info.run_id, artifact_path="report")
    assert {"report/crossed.csv", "report/crossed_effects.csv", "report/crossed_gains.png"} <= {
        file.path for file in files
    }
    assert "unrelated sources" in tags["mlflow.note.content"]
    command = next(line for line in tags["mlflow.note.content"].splitlines() if "-e plan" in line)
    values = dict(word.split("=", 1) for word in command.split() if "=" in word)
    assert values["like"] == run.info.run_id
    capsys.readouterr()
    run_plan(PlanConfig.model_validate(values))
    assert "The spread is estimated from 4 sources" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("no_figures")
def test_shared_vocabulary_is_held_equal_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    log_runs(crossed_tables(0.1, n=40), study="c")
    config = CompareConfig(study="c", source="tur_Latn")
    collected = collect_runs(config)
    without = plan_comparison(collected, config)
    assert without.shared_vocabulary is None
    pairs = product(CROSSED_SOURCES, CROSSED_TARGETS)
    overlaps = {pair: 0.1 + 0.001 * place**1.5 for place, pair in enumerate(pairs)}
    monkeypatch.setattr("isogloss.stages.compare._overlaps", lambda _: overlaps)
    known = plan_comparison(collected, config)
    assert known.fingerprint != without.fingerprint
    run_compare(config)
    (run,) = compare_run_list()
    assert "crossed/at_equal_shared_vocabulary" in run.data.metrics


def test_a_condition_is_not_compared_with_itself() -> None:
    log_runs(tables(gains(0.1, 0.05), n=20))
    with pytest.raises(ConfigError, match="condition 'tuned' cannot be compared with itself"):
        run_compare(CompareConfig(condition="tuned", against="tuned"))


@pytest.mark.usefixtures("no_figures")
def test_languages_that_a_run_lacks_are_left_out_and_named() -> None:
    predictions = tables(gains(0.1, 0.05), n=20)
    log_run(BASE, predictions[BASE])
    tuned = predictions[TUNED]
    log_run(TUNED, tuned[tuned["language"] != CONTROL[0]])
    run_compare(CompareConfig())
    (run,) = compare_run_list()
    note = run.data.tags["mlflow.note.content"]
    assert f"because m, tuned on arb_Arab, seed 0 lacks them: {CONTROL[0]}." in note
    assert f"gain/{RELATED[0]}" in run.data.metrics
    assert f"gain/{CONTROL[0]}" not in run.data.metrics


@pytest.mark.parametrize(
    "change",
    [
        {"condition": "base+cot"},
        {"against": "base+cot"},
        {"margin": 0.05},
        {"margin": "20%"},
        {"branch": "Semitic"},
        {"source": "eng_Latn"},
    ],
)
def test_every_option_that_decides_the_result_is_part_of_the_fingerprint(
    change: dict[str, object],
) -> None:
    log_runs(tables(gains(0.1, 0.05), n=20))
    collected = collect_runs(CompareConfig())
    fingerprint = plan_comparison(collected, CompareConfig()).fingerprint
    assert plan_comparison(collected, CompareConfig()).fingerprint == fingerprint
    assert plan_comparison(collected, CompareConfig(**change)).fingerprint != fingerprint


@pytest.mark.usefixtures("no_figures")
def test_covariates_of_a_file_are_adjusted_for_and_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    rows = [f"{code},{place**2}" for place, code in enumerate((*RELATED, *CONTROL))]
    path.write_text("\n".join(["language,number of speakers", *rows]), encoding="utf-8")
    log_runs(tables(gains(0.1, 0.05), n=20))
    config = CompareConfig(covariates=str(path))
    run_compare(config)
    (run,) = compare_run_list()
    assert "adjusted/number_of_speakers" in run.data.metrics
    collected = collect_runs(config)
    fingerprint = plan_comparison(collected, config).fingerprint
    path.write_text(path.read_text(encoding="utf-8").replace(",1\n", ",2\n"), encoding="utf-8")
    assert plan_comparison(collected, config).fingerprint != fingerprint
    path.write_text("language,baseline\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no rows"):
        run_compare(config)
    assert len(compare_run_list()) == 1


def test_runs_and_omissions_are_part_of_the_fingerprint() -> None:
    predictions = tables(gains(0.1, 0.05), n=20)
    log_runs(predictions)
    fingerprints = [plan_comparison(collect_runs(CompareConfig()), CompareConfig()).fingerprint]
    log_run(TUNED._replace(seed="1"), predictions[BASE], status="RUNNING")
    fingerprints.append(plan_comparison(collect_runs(CompareConfig()), CompareConfig()).fingerprint)
    log_run(TUNED._replace(seed="2"), predictions[TUNED])
    fingerprints.append(plan_comparison(collect_runs(CompareConfig()), CompareConfig()).fingerprint)
    assert len(set(fingerprints)) == 3


@pytest.mark.usefixtures("no_figures")
def test_a_comparison_reads_predictions_and_no_metrics_of_languages() -> None:
    ids = log_runs(tables(gains(0.1, 0.05), n=20)).values()
    run_compare(CompareConfig(source="arb_Arab"))
    (first,) = compare_run_list()
    mlflow.MlflowClient().delete_run(first.info.run_id)
    with sqlite3.connect("mlflow.db") as database:
        for run_id in ids:
            database.execute("DELETE FROM latest_metrics WHERE run_uuid = ?", (run_id,))
    run_compare(CompareConfig(source="arb_Arab"))
    (second,) = compare_run_list()
    assert second.data.metrics == first.data.metrics
