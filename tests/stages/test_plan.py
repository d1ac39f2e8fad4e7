"""A plan: its parameters, its pilot, its sentences and figure, and the run it leaves."""

import io
import math
import re
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from synthetic_predictions import CONTROL, RELATED, gains, tables

from entrypoints import plan as entry
from isogloss.analysis.comparison import compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.config import PlanConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.report.power import sentences, text
from isogloss.report.power_figures import plan_figure
from isogloss.stages import plan as stage
from isogloss.stages.plan_pilots import read_pilot
from isogloss.stages.plan_record import metrics
from isogloss.stats.power import design_power


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gain": 0.3, "discordant": 0.2}, "a mean gain of 0.3 needs at least that share"),
        ({"items": 100, "passages": 200}, "`passages` must not exceed the 100 items but got 200."),
        ({"gain": 0, "discordant": 0, "spread": 0, "seed_spread": 0}, "must be positive"),
    ],
)
def test_contradictory_parameters_are_rejected(arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        stage.plan(PlanConfig(**arguments))
    assert str(error.value).count("\n") == 0


def run(*arguments: str) -> Result:
    return CliRunner().invoke(entry.main, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--related", "1"], "related should be at least 2 or 'auto', but got '1'"),
        (["--control", "4,one"], "item 2 of control should be an integer"),
        (["--control", "none"], "item 1 of control should be an integer"),
        (
            ["--margin", "3"],
            "margin should be less than 1 (a fraction: 0.03 is three points), but got '3'",
        ),
        (["--discordant", "0.1"], "a mean gain of 0.2 needs at least that share of items"),
        (["--like", "nothing"], "like: 'nothing' is not the id of a run"),
    ],
)
def test_a_user_mistake_exits_2_with_one_sentence_and_leaves_no_run(arguments, message):
    result = run(*arguments)
    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert "Traceback" not in result.output
    assert mlflow.search_runs(search_all_experiments=True).empty


def test_a_plan_is_printed_and_logged_as_a_run():
    result = run("--related", "4", "--control", "12,4,8", "--seeds", "3", "--study", "s")
    assert result.exit_code == 0, result.output
    (logged,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert logged.data.tags["isogloss.kind"] == "plan"
    assert logged.data.tags["isogloss.study"] == "s"
    note = logged.data.tags["mlflow.note.content"]
    assert note in result.output
    assert note.startswith("With 4 related languages the minimum detectable effect stays above")
    expected = design_power(stage.plan(PlanConfig(seeds=3)).spread, 4, 12, effect=0.1, margin=0.03)
    values = logged.data.metrics
    assert all(re.fullmatch(r"[A-Za-z0-9_\-. :/]+", name) for name in values)
    assert values["plan/power/control-12"] == pytest.approx(expected.power)
    assert values["plan/minimum_detectable_effect/control-12"] == pytest.approx(
        expected.minimum_detectable_effect
    )
    uri = f"{logged.info.artifact_uri}/"
    rows = pd.read_csv(io.StringIO(mlflow.artifacts.load_text(uri + "plan.csv")))
    assert list(rows["control"]) == [4, 8, 12]
    assert rows["equivalence"].between(0, 1).all()
    assert mlflow.artifacts.load_image(uri + "power.png").width > 800


@pytest.mark.parametrize("design", [("--control", "8"), ("--sources", "4")])
def test_a_store_that_cannot_be_used_comes_after_the_answer(design, tmp_path, monkeypatch):
    mlflow.set_tracking_uri(f"file://{tmp_path}")
    result = run(*design)
    assert result.exit_code == 2
    assert "Power of the verdict equivalent at a true" in result.stdout
    assert "figure:" not in result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: MLFLOW_TRACKING_URI must begin with one of http://")


def test_columns_are_aligned_and_too_few_languages_are_reported():
    planned = stage.plan(PlanConfig(related=2, control=(3, 4)))
    _, _, heading, *rows = text(planned).splitlines()
    assert {len(row) for row in rows} == {len(heading)}
    assert "too few relabellings for any contrast" in " ".join(sentences(planned))
    assert "∞" not in text(planned) + " ".join(sentences(planned))
    assert "Too few languages" in plan_figure(planned).get_suptitle()
    assert all(math.isfinite(value) for value in metrics(planned).values())


def test_a_margin_of_a_percentage_is_one_of_the_expected_gain():
    planned = stage.plan(PlanConfig(control=(12,), margin="20%", gain=-0.15))
    assert planned == stage.plan(PlanConfig(control=(12,), margin=0.03, gain=-0.15))


def test_with_enough_languages_no_more_are_recommended():
    planned = stage.plan(PlanConfig(related=60, control=(20, 100), effect=0.02))
    statements = " ".join(sentences(planned))
    assert "100 controls reach 80%" in statements
    assert "needs" not in statements


def test_the_recommended_number_of_languages_reaches_80_percent_power():
    planned = stage.plan(PlanConfig())
    (needs,) = (line for line in sentences(planned) if "needs" in line)
    enough = int(re.search(r"needs (\d+) related", needs)[1])
    for related, reached in ((enough, True), (enough - 1, False)):
        row = design_power(planned.spread, related, related, effect=0.1, margin=planned.margin)
        assert (row.equivalence >= 0.8) == reached


def test_the_figure_has_one_line_per_number_of_controls_with_its_power():
    planned = stage.plan(PlanConfig(control=(4, 12)))
    lines = {line.get_label(): line for line in plan_figure(planned).axes[0].lines}
    assert {"4 controls", "12 controls", "unlimited controls"} <= set(lines)
    for row in planned.outlooks:
        x, y = lines[f"{row.control} controls"].get_data()
        assert np.interp(100 * planned.effect, x, y) == pytest.approx(100 * row.power, abs=0.5)


@pytest.fixture
def pilot() -> str:
    """A compare run of four related and twelve control languages, 100 items each."""
    numbers = comparison_metrics(
        compare(tables(gains(0.1, 0.05, spread=0.06), n=100), source="arb_Arab")
    )
    with mlflow.start_run() as evaluated:
        mlflow.log_metrics({f"n/{code}": 100 for code in (*RELATED, *CONTROL)} | {"n/eng_Latn": 7})
    with mlflow.start_run() as compared:
        mlflow.log_metrics(numbers)
        mlflow.log_param("branch", "auto")
        mlflow.set_tags(
            {
                "isogloss.kind": "compare",
                "isogloss.source": "arb_Arab",
                "isogloss.cells": f"{evaluated.info.run_id} gone",
            }
        )
    return str(compared.info.run_id)


def test_a_pilot_replaces_the_assumed_spread_and_sample_sizes(pilot):
    measured = read_pilot(pilot)
    sizes = (measured.related, measured.control, measured.items, measured.seeds)
    assert sizes == (4, 12, 100, 1)
    low, high = measured.interval
    assert low < measured.spread < high
    same = stage.plan(PlanConfig(like=pilot, spread=0.5), measured)
    assert (same.related, same.items) == (4, 100)
    assert same.spread == pytest.approx(measured.spread)
    more = stage.plan(PlanConfig(like=pilot, items=900, seeds=3, related=6), measured)
    assert (more.related, more.items, more.seeds) == (6, 900, 3)
    assert more.parts.languages <= more.spread < same.spread
    result = run("--like", pilot, "--items", "900")
    assert result.exit_code == 0, result.output
    assert "is estimated from 16 languages" in result.output


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("contrast/spread", "has no metric 'contrast/spread'; repeat the comparison"),
        ("isogloss.cells", "and its runs have no numbers of items"),
        ("isogloss.kind", "is not a finished compare run"),
    ],
)
def test_an_incomplete_pilot_is_rejected_in_one_sentence(pilot, missing, message):
    complete = mlflow.get_run(pilot).data
    with mlflow.start_run() as other:
        mlflow.log_metrics({k: v for k, v in complete.metrics.items() if k != missing})
        mlflow.set_tags({k: v for k, v in complete.tags.items() if k != missing})
    with pytest.raises(ComparisonError, match=re.escape(message)):
        read_pilot(other.info.run_id)


def test_a_pilot_whose_items_explain_its_spread_is_called_a_best_case(pilot):
    measured = replace(read_pilot(pilot), item_error=0.5)
    statements = sentences(stage.plan(PlanConfig(like=pilot), measured))
    assert "a best case" in statements[-1]
