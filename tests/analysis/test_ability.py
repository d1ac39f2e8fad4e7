"""Gain, baseline and kinship on a scale of ability."""

import numpy as np
import pandas as pd
import pytest
from synthetic_predictions import (
    BASE,
    CONTROL,
    RELATED,
    TUNED,
    compare_pair,
    crossed_tables,
    pair,
    study,
)

from isogloss.analysis.ability import ability_shares
from isogloss.analysis.aligned_study import AlignedStudy, ComparisonSpec, language_groups
from isogloss.analysis.alignment import align
from isogloss.analysis.comparison import compare
from isogloss.analysis.crossed_frames import crossed_effects_frame, crossed_metrics
from isogloss.report.claims import claim_texts
from isogloss.stats.crossed import crossed_effect
from isogloss.stats.item_response import fit_abilities
from isogloss.types import Measure

CODES = (*RELATED, *CONTROL)
SOURCE = "arb_Arab"


def answers(level: dict[str, float], gain: float = 1.0, n: int = 300, seed: int = 0):
    """Predictions before and after, for an equal gain in ability of all languages."""
    rng = np.random.default_rng(seed)
    before, after = pair(dict.fromkeys(level, 0.1), n=n)
    difficulty = dict(zip(before["item_id"].unique(), rng.normal(0, 1, n), strict=True))
    for rows, added in ((before, 0.0), (after, gain)):
        logit = rows["language"].map(level) + added - rows["item_id"].map(difficulty)
        rows["correct"] = rng.random(len(rows)) < 0.25 + 0.75 / (1 + np.exp(-logit))
    return before, after


@pytest.fixture(scope="module")
def near_the_ceiling():
    """Relatives with weaker baselines, everyone near the ceiling, and one gain of one logit."""
    rng = np.random.default_rng(5)
    level = {code: rng.normal(1.2 if code in RELATED else 2.2, 0.6) for code in CODES}
    return compare_pair(answers(level, n=600))


def aligned(tables) -> AlignedStudy:
    scores, _ = align(tables)
    spec = ComparisonSpec(SOURCE)
    models = tuple(dict.fromkeys(run.model for run in scores.runs))
    return AlignedStudy(scores, models, language_groups(scores.languages, spec), spec)


def test_an_equal_gain_in_ability_near_a_ceiling_is_equal_in_ability_alone(near_the_ceiling):
    contrasts = near_the_ceiling.overall.contrasts
    assert contrasts[Measure.ACCURACY].permutation.interval_95.low > 0
    assert not contrasts[Measure.ABILITY].permutation.interval_95.excludes(0.0)
    assert contrasts[Measure.ABILITY].mean_control == pytest.approx(1.0, abs=0.15)
    kinship = claim_texts(near_the_ceiling)[0]
    assert len(kinship.details) == 1
    assert kinship.details[0].startswith(
        "Described, without a verdict. On a scale of ability (item response model, guessing known, "
        "items shared): "
    )


def test_an_equal_gain_in_ability_near_a_ceiling_has_no_slope_in_ability(near_the_ceiling):
    (accuracy,), (ability,) = near_the_ceiling.baseline_slopes, near_the_ceiling.ability_slopes
    assert accuracy.test.interval.high < 0
    assert not ability.test.interval.excludes(0.0)
    assert abs(ability.test.slope) < 0.15
    weak = claim_texts(near_the_ceiling)[1]
    assert weak.verdict == "weak baselines gain more"
    assert any("items shared): no relation is shown" in line for line in weak.details)


def test_abilities_are_those_of_each_model_over_its_runs_and_languages():
    scores = aligned(study(2, seeds=2, n=40)).scores
    places = [place for place, run in enumerate(scores.runs) if run.model == "model-1"]
    # Every language has the same items in the same order.
    correct_KLI = scores.correct[places].reshape(len(places), len(scores.languages), 40)
    fit = fit_abilities(correct_KLI.reshape(-1, 40), scores.chance)
    assert scores.abilities.ability[places].ravel() == pytest.approx(fit.ability, abs=1e-3)
    assert scores.abilities.influence[places].ravel() == pytest.approx(
        fit.influence.ravel(), abs=1e-4
    )


def test_shares_of_passages_sum_to_abilities_and_their_gain():
    before, after = answers(dict.fromkeys(CODES, 0.5), n=60)
    # One language lacks some items.
    tables = {
        run: rows[(rows["language"] != CODES[0]) | (rows["item_id"] < "item-050")]
        for run, rows in {BASE: before, TUNED: after}.items()
    }
    aligned_study = aligned(tables)
    shares = ability_shares(aligned_study, ["m"])
    ability_KT = aligned_study.in_contrast(aligned_study.scores.abilities.ability)
    assert shares.totals("before") == pytest.approx(ability_KT[0])
    assert shares.totals("gain") == pytest.approx(ability_KT[1] - ability_KT[0])
    lost = aligned_study.codes.index(CODES[0])
    unanswered = shares.weight[:, lost] == 0
    assert unanswered.sum() == 5
    assert (shares.scores["gain"][unanswered, lost] == 0).all()


def test_the_effect_of_kinship_in_ability_is_that_of_gains_in_ability():
    runs = crossed_tables(0.1, models=2, n=60)
    comparison = compare(runs, source="tur_Latn")
    crossed = comparison.crossed
    scores, _ = align(runs)
    ability = dict(zip(scores.runs, scores.abilities.ability, strict=True))
    columns = [scores.languages.index(code) for code in crossed.targets]
    gain_ST = np.array(
        [
            np.mean(
                [
                    own[columns] - ability[run._replace(condition="base", source="", seed="")][columns]
                    for run, own in ability.items()
                    if run.source == source.code
                ],
                axis=0,
            )
            for source in crossed.sources
        ]
    )  # fmt: skip
    kin_ST = np.array(
        [[code in own.relatives for code in crossed.targets] for own in crossed.sources]
    )
    expected = crossed_effect(gain_ST, kin_ST, [own.branch for own in crossed.sources])
    assert crossed.ability.estimate == pytest.approx(expected.estimate)
    assert crossed.ability.p == expected.p
    assert crossed.ability.margin is None
    assert crossed.overall.margin == comparison.margin
    frame = crossed_effects_frame(crossed).set_index("analysis")
    assert frame.loc["kinship in ability", "estimate"] == crossed.ability.estimate
    assert crossed_metrics(crossed)["crossed/ability"] == crossed.ability.estimate
    assert "On a scale of ability" in claim_texts(comparison)[0].details[0]


def test_without_choices_nothing_is_guessed():
    before, after = answers(dict.fromkeys(CODES, 0.5), n=40)
    tables = {
        run: pd.DataFrame(rows).drop(columns="choice_logprobs")
        for run, rows in {BASE: before, TUNED: after}.items()
    }
    scores = aligned(tables).scores
    assert scores.chance is None
    fit = fit_abilities(scores.correct.reshape(-1, 40), 0.0)
    assert scores.abilities.ability.ravel() == pytest.approx(fit.ability, abs=1e-3)
