"""Plans of crossed designs: power and cost by number of sources, proposals, pilots."""

import io
import math
import re

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from pydantic import ValidationError

from entrypoints import plan as entry
from isogloss.config import PlanConfig, StudyConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.languages import group
from isogloss.report.crossed_power import sentences, study_fragment, text
from isogloss.report.power_figures import crossed_plan_figure
from isogloss.stages import plan_crossed as stage
from isogloss.stages.plan_pilots import read_crossed_pilot
from isogloss.stages.plan_record import crossed_metrics
from isogloss.stats.crossed_power import CrossedSpread, answer_spread, crossed_power
from isogloss.types import Group

SOURCES = ("arb_Arab", "tur_Latn", "rus_Cyrl", "hin_Deva")
RELATIVES = {
    "arb_Arab": ("heb_Hebr", "mlt_Latn", "amh_Ethi"),
    "tur_Latn": ("azj_Latn", "kaz_Cyrl", "kir_Cyrl"),
    "rus_Cyrl": ("ukr_Cyrl", "bul_Cyrl", "pol_Latn"),
    "hin_Deva": ("ben_Beng", "mar_Deva", "pan_Guru"),
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(entry.main, arguments)


def test_a_crossed_plan_is_printed_and_logged_as_a_run():
    result = run("--sources", "6,4", "--items", "204", "--effect", "0.06", "--parameters", "4e9")
    assert result.exit_code == 0, result.output
    (logged,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    spread = CrossedSpread(0.01, 0.04, 0.02, answer_spread(0.4, 204 / 111, 0.1))
    expected = crossed_power(spread, 6, 4, items=204, seeds=1, effect=0.06, margin=0.03)
    values = logged.data.metrics
    assert values["plan/power/sources-6"] == pytest.approx(expected.power)
    assert values["plan/minimum_detectable_effect/sources-6"] == pytest.approx(
        expected.minimum_detectable_effect
    )
    assert values["plan/evaluations/sources-4"] == 16 * 5
    uri = f"{logged.info.artifact_uri}/"
    rows = pd.read_csv(io.StringIO(mlflow.artifacts.load_text(uri + "plan.csv")))
    assert list(rows["sources"]) == [4, 6]
    # Kaplan's 2 operations per parameter and token, 4 in training, at 60% and half of an H100's speed.
    # Attention, LoRA, the embeddings, which have no products, and the head, at few tokens, make the
    # difference.
    tokens = 400 * (204 * 24 * 7 * 2 / 0.6 + 960 * 6 * 4 / 0.5)
    assert rows["hours"][1] == pytest.approx(4e9 * tokens / 790e12 / 3600, rel=0.15)
    assert mlflow.artifacts.load_image(uri + "power.png").width > 800
    note = logged.data.tags["mlflow.note.content"]
    assert note in result.output
    assert note.startswith("With 6 sources with 4 relatives each the minimum detectable effect")


def test_columns_are_aligned_and_three_sources_cannot_reach_significance():
    planned = stage.crossed_plan(PlanConfig(sources=(3,)))
    _, _, heading, *rows = text(planned).splitlines()
    assert {len(row) for row in rows} == {len(heading)}
    assert "no effect can reach p = 0.05" in sentences(planned)[0]
    assert "Too few sources" in crossed_plan_figure(planned).get_suptitle()
    assert all(math.isfinite(value) for value in crossed_metrics(planned).values())


def test_the_figure_shows_the_power_of_each_design():
    planned = stage.crossed_plan(PlanConfig(sources=(4, 6), effect=0.05))
    lines = {line.get_label(): line for line in crossed_plan_figure(planned).axes[0].lines}
    for outlook in planned.outlooks:
        x, y = lines[f"{outlook.power.sources} sources, 4 relatives each"].get_data()
        assert np.interp(5.0, x, y) == pytest.approx(100 * outlook.power.power, abs=0.5)


def test_a_proposal_detects_nearly_the_smallest_effect_that_the_budget_can():
    config = PlanConfig(propose="belebele", budget=200)
    planned = stage.crossed_plan(config)
    assert all(outlook.cost.evaluations <= 200 for outlook in planned.outlooks)
    found = planned.best.power.minimum_detectable_effect * planned.proposal.script_inflation
    branches = stage.candidate_branches(stage._languages("belebele", config))
    for sources, relatives in stage.feasible_designs(branches):
        if sources * relatives * (sources + 1) <= 200:
            other = crossed_power(
                planned.spread, sources, relatives,
                items=planned.items, seeds=1, effect=0.1, margin=0.03,
            ).minimum_detectable_effect  # fmt: skip
            proposal = stage.propose(branches, sources, relatives)
            assert found <= 1.1 * other * proposal.script_inflation
            if found >= other * proposal.script_inflation:  # given up for more families
                assert len(proposal.families) <= len(planned.proposal.families)
    assert len(planned.proposal.sources) == planned.best.power.sources
    assert planned.best in planned.outlooks
    assert stage.crossed_plan(config) == planned


def test_the_proposal_is_a_study_file():
    planned = stage.crossed_plan(PlanConfig(propose="sib200", budget=300, seeds=2))
    fragment = study_fragment(planned.proposal, planned.seeds, planned.margin)
    study = StudyConfig.model_validate({"study": "s", "task": "sib200", **yaml.safe_load(fragment)})
    assert tuple(source.source for source in study.sources) == planned.proposal.sources
    assert study.languages == planned.proposal.targets
    assert study.seeds == (0, 1)
    assert fragment in stage.printed(planned)


def test_a_budget_in_hours_limits_the_hours():
    planned = stage.crossed_plan(PlanConfig(propose="belebele", budget_hours=0.5, parameters=4.3e9))
    assert all(outlook.cost.hours <= 0.5 for outlook in planned.outlooks)
    more = stage.crossed_plan(PlanConfig(propose="belebele", budget_hours=2, parameters=4.3e9))
    best, better = (plan.best.power.minimum_detectable_effect for plan in (planned, more))
    assert better < best


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"propose": "belebele", "budget": 20}, "the cheapest needs 40 evaluations."),
        (
            {"propose": "belebele", "budget": 200, "languages": ("arb_Arab", "fra_Latn")},
            "needs four branches with at least three",
        ),
        (
            {"propose": "belebele", "budget": 200, "languages": ("ace_Arab",)},
            "task 'belebele' has no language 'ace_Arab'",
        ),
        ({"sources": (4,), "items": 10, "passages": 20}, "`passages` must not exceed the 10 items"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused_in_one_sentence(arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        stage.crossed_plan(PlanConfig(**arguments))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"propose": "belebele"}, "propose needs a number of evaluations"),
        ({"propose": "belebele", "budget_hours": 2}, "needs the number of parameters"),
        ({"sources": (2,)}, "greater than or equal to 3"),
    ],
)
def test_incomplete_parameters_are_refused(arguments, message):
    with pytest.raises(ValidationError, match=message):
        PlanConfig(**arguments)


@pytest.fixture
def pilot() -> str:
    """A compare run of four sources on their twelve relatives, two seeds each, and a pooled one."""
    rng = np.random.default_rng(0)
    targets = [code for source in SOURCES for code in RELATIVES[source]]
    difficulty = dict(zip(targets, rng.normal(0.6, 0.1, len(targets)), strict=True))
    ids = []
    for source in (*SOURCES, f"{SOURCES[0]}+{SOURCES[1]}"):
        for seed in (0, 1):
            values = {
                f"accuracy/{code}": difficulty[code] + 0.03 * rng.normal() for code in targets
            }
            values |= {f"n/{code}": 100 for code in targets} | {"accuracy/mean": 0.5}
            with mlflow.start_run() as evaluated:
                mlflow.log_metrics(
                    values | {f"accuracy/{source[:8]}": 0.99, f"n/{source[:8]}": 100}
                )
                mlflow.set_tags(
                    {
                        "isogloss.source": source,
                        "isogloss.condition": "tuned",
                        "isogloss.seed": str(seed),
                    }
                )
            ids.append(evaluated.info.run_id)
    with mlflow.start_run() as compared:
        mlflow.set_tags({"isogloss.kind": "compare", "isogloss.cells": " ".join([*ids, "gone"])})
    return str(compared.info.run_id)


def test_a_pilot_provides_the_spread_and_the_sample_sizes(pilot):
    measured = read_crossed_pilot(pilot)
    assert (measured.items, measured.seeds) == (100, 2)
    assert measured.accuracy.shape == (4, 16)
    assert set(measured.sources) == set(SOURCES)  # not the one pooled from two branches
    for s, source in enumerate(measured.sources):
        for t, target in enumerate(measured.targets):
            known = not math.isnan(measured.accuracy[s, t])
            assert known == (group(target, source) != Group.SOURCE and target not in SOURCES)
    planned = stage.crossed_plan(PlanConfig(sources=(4, 6), like=pilot), measured)
    assert (planned.items, planned.seeds) == (100, 2)
    assert planned.spread.of_target(100, 2) == pytest.approx(0.03 / math.sqrt(2), rel=0.35)
    assert "4 sources and 16 targets of the pilot" in " ".join(sentences(planned))
    more = stage.crossed_plan(PlanConfig(sources=(4, 6), like=pilot, items=900), measured)
    assert more.best.power.error < planned.best.power.error


def test_a_pilot_of_one_source_or_none_is_refused(pilot):
    cells = mlflow.get_run(pilot).data.tags["isogloss.cells"].split()
    with mlflow.start_run() as other:
        mlflow.set_tags({"isogloss.kind": "compare", "isogloss.cells": " ".join(cells[:2])})
    with pytest.raises(ComparisonError, match="has adapters of 1 source languages"):
        read_crossed_pilot(other.info.run_id)
    for run_id in ("nothing", cells[0]):
        with pytest.raises(ComparisonError, match="is not the id of a finished compare run"):
            read_crossed_pilot(run_id)


def test_the_best_outlook_of_given_sources_is_the_largest():
    planned = stage.crossed_plan(PlanConfig(sources=(8, 4, 6)))
    assert [outlook.power.sources for outlook in planned.outlooks] == [4, 6, 8]
    assert planned.best == planned.outlooks[-1]
