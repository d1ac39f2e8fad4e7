"""Verdicts on the three claims: only where something was learnt, and only what the runs can carry."""

import math
from dataclasses import replace

import numpy as np
import pytest
from synthetic_predictions import CONTROL, RELATED, crossed_tables, gains, pair, study, tables

from isogloss.analysis.baseline_claim import baseline_claim
from isogloss.analysis.claims import ClaimVerdict, claim_verdicts, level_verdict
from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.gain_slopes import LevelContrast, ModelLevel
from isogloss.analysis.learning import Learning, Obstacle
from isogloss.analysis.score_matrix import RunKey
from isogloss.stats.two_way import TwoWayMean
from isogloss.types import Condition, Interval, Verdict

CODES = (*RELATED, *CONTROL)


@pytest.fixture(scope="module")
def several() -> Comparison:
    """Five models in four conditions, so that slopes are over models too."""
    return compare(study(5, seeds=1, n=40), source="arb_Arab")


def mean(estimate: float, se: float = 0.01) -> TwoWayMean:
    """A mean whose intervals are those of a normal distribution."""
    ends = [Interval(estimate - half * se, estimate + half * se) for half in (1.96, 1.645)]
    p = math.erfc(abs(estimate) / se / math.sqrt(2))
    return TwoWayMean(estimate, se, 1e6, p, *ends, 16)


def learnt(gain: float, before: float = 0.4, se: float = 0.01) -> Learning:
    return Learning("m", mean(before, se), mean(before + gain, se), mean(gain, se))


def after(gain: dict[str, float], base: float, n: int = 200) -> Comparison:
    return compare(tables(gain, n=n, base=base), source="arb_Arab")


# Kinship


@pytest.mark.parametrize(
    ("related", "spread", "verdict"),
    [
        (0.30, 0.01, ClaimVerdict.DIFFERENCE_SEEN),
        (0.10, 0.01, Verdict.EQUIVALENT),
        (0.12, 0.10, ClaimVerdict.NO_DIFFERENCE_SEEN),
    ],
)
def test_a_contrast_of_one_source_is_described(related, spread, verdict):
    verdicts = claim_verdicts(after(gains(related, 0.1, spread), 0.4))
    assert (verdicts.kinship, verdicts.by_claim["C1"]) == (verdict, verdict)
    assert verdicts.obstacle is None


@pytest.mark.parametrize(
    ("gain", "base", "obstacle"),
    [
        (gains(0.0, 0.0), 0.25, Obstacle.AT_CHANCE),
        (gains(0.0075, 0.0075, 0.0025), 0.985, Obstacle.EVERYONE_RIGHT),
        (gains(0.0, 0.0), 0.5, Obstacle.NO_GAIN),
        (gains(0.055, 0.055, 0.005), 0.5, Obstacle.LARGE_MARGIN),
    ],
)
def test_nothing_is_equal_where_nothing_was_learnt(gain, base, obstacle):
    comparison = after(gain, base)
    assert comparison.contrast.verdict == Verdict.EQUIVALENT
    verdicts = claim_verdicts(comparison)
    assert (verdicts.kinship, verdicts.obstacle) == (ClaimVerdict.NOTHING_TO_COMPARE, obstacle)
    # Slopes do not depend on the margin.
    nothing = verdicts.by_claim["C2"] == "nothing to compare"
    assert nothing == (obstacle != Obstacle.LARGE_MARGIN)


@pytest.fixture(scope="module")
def crossed() -> Comparison:
    """Sources of four branches, with an effect of kinship."""
    return compare(crossed_tables(), source="tur_Latn")


def with_sources(comparison: Comparison, verdict: Verdict, own: list[Learning]) -> Comparison:
    """The comparison with another verdict, and with this learnt from each source."""
    overall = replace(comparison.crossed.overall, verdict=verdict)
    design = replace(comparison.crossed, overall=overall)
    return replace(comparison, crossed=design, source_learning=tuple(own))


@pytest.mark.parametrize(
    ("mean_gains", "obstacle", "affected", "largest"),
    [
        ((0.2, 0.2, 0.2, 0.2), None, 0, 0),
        ((0.2, -0.2, 0.2, 0.2), None, 0, 0),
        ((0.2, 0.3, 0.2, 0.0), Obstacle.FEW_SOURCES, 1, 0.3),
        ((0.2, 0.0, 0.0, 0.0), Obstacle.FEW_SOURCES, 3, 0.2),
        ((0.2, 0.05, 0.0, 0.0), Obstacle.FEW_SOURCES, 2, 0.2),
        ((0.2, 0.05, 0.04, 0.2), Obstacle.LARGE_MARGIN, 2, 0.05),
        ((0.05, 0.04, 0.04, 0.04), Obstacle.LARGE_MARGIN, 4, 0.05),
        ((0.0, 0.05, 0.0, 0.0), Obstacle.FEW_SOURCES, 3, 0.05),
        ((0.0, 0.02, 0.0, 0.0), Obstacle.NO_GAIN, 4, 0.02),  # p = .046, fourfold above .05
    ],
)
def test_equal_gains_of_a_crossed_design_need_sources_of_four_branches_that_taught(
    crossed, mean_gains, obstacle, affected, largest
):
    own = [learnt(gain) for gain in mean_gains]
    verdicts = claim_verdicts(with_sources(crossed, Verdict.EQUIVALENT, own))
    assert verdicts.obstacle == obstacle
    if obstacle is None:
        assert verdicts.kinship == Verdict.EQUIVALENT
        return
    grounds = verdicts.kinship_grounds
    assert verdicts.kinship == ClaimVerdict.NOTHING_TO_COMPARE
    assert (grounds.tests, grounds.affected) == (4, affected)
    assert grounds.learnt.gain.estimate == largest


def test_two_sources_of_one_branch_are_one_branch_that_taught(crossed):
    first, *others = crossed.crossed.sources
    sources = (first, replace(first, code="heb_Hebr"), *others)
    design = replace(crossed, crossed=replace(crossed.crossed, sources=sources))
    for last, verdict in ((0.0, ClaimVerdict.NOTHING_TO_COMPARE), (0.2, Verdict.EQUIVALENT)):
        own = [learnt(gain) for gain in (0.2, 0.2, 0.2, 0.2, last)]
        assert claim_verdicts(with_sources(design, Verdict.EQUIVALENT, own)).kinship == verdict


@pytest.mark.parametrize("verdict", [Verdict.RELATED_GAIN_MORE, Verdict.INCONCLUSIVE])
def test_one_source_that_taught_is_enough_for_another_verdict(crossed, verdict):
    own = [learnt(gain) for gain in (0.0, 0.2, 0.0, 0.0)]
    assert claim_verdicts(with_sources(crossed, verdict, own)).kinship == verdict
    at_chance = [learnt(0.0, before=0.25) for _ in range(4)]
    verdicts = claim_verdicts(with_sources(crossed, verdict, at_chance))
    assert verdicts.obstacle == Obstacle.AT_CHANCE


def test_nothing_learnt_from_sources_with_relatives_is_nothing_to_compare(crossed):
    *others, last = crossed.crossed.sources
    sources = (*others, replace(last, relatives=()))
    design = replace(crossed, crossed=replace(crossed.crossed, sources=sources))
    own = [learnt(gain) for gain in (0.0, 0.0, 0.0, 0.2)]
    verdicts = claim_verdicts(with_sources(design, Verdict.INCONCLUSIVE, own))
    assert (verdicts.obstacle, verdicts.kinship_grounds.tests) == (Obstacle.NO_GAIN, 3)


def test_a_gain_and_a_loss_that_cancel_are_a_difference():
    comparison = after(gains(0.15, -0.05), 0.4)
    assert comparison.learning.obstacle(0.25, 0.03) == Obstacle.NO_GAIN
    assert claim_verdicts(comparison).kinship == ClaimVerdict.DIFFERENCE_SEEN


def test_what_was_learnt_is_the_mean_over_languages_in_the_contrast(several):
    rows = [row for row in several.languages if row.code in (*CODES, "deu_Latn")]
    assert several.learning.gain.estimate == pytest.approx(np.mean([row.gain for row in rows]))
    assert several.learning.before.estimate == pytest.approx(np.mean([row.before for row in rows]))
    assert several.learning.after.estimate == pytest.approx(np.mean([row.after for row in rows]))
    assert [model.label for model in several.model_learning] == [f"model-{m}" for m in range(5)]


def test_the_p_of_a_gain_is_adjusted_for_the_models_that_are_asked():
    gain = learnt(0.1, se=0.04)  # p = 0.012
    assert gain.obstacle(0.25, 0.03) is None
    assert gain.obstacle(0.25, 0.03, tests=5) == Obstacle.NO_GAIN


# Weak and strong baselines


@pytest.mark.parametrize(
    ("interval", "baseline"),
    [
        ((0.1, 0.5), ClaimVerdict.WEAK_GAIN_LESS),
        ((-0.5, -0.1), ClaimVerdict.WEAK_GAIN_MORE),
        ((-0.5, 0.1), ClaimVerdict.INCONCLUSIVE),
        ((-math.inf, math.inf), ClaimVerdict.INCONCLUSIVE),
        ((-math.inf, -0.1), ClaimVerdict.WEAK_GAIN_MORE),
    ],
)
def test_a_slope_has_a_verdict_where_its_interval_excludes_zero(several, interval, baseline):
    *others, slope = several.baseline_slopes
    changed = replace(slope, test=slope.test._replace(interval=Interval(*interval)))
    verdicts = claim_verdicts(replace(several, baseline_slopes=(*others, changed)))
    assert verdicts.baseline == baseline


@pytest.mark.parametrize(
    ("strong_gains", "verdict"),
    [
        ((0.00, 0.01), ClaimVerdict.STRONG_GAIN_LITTLE),
        ((0.00, 0.08), ClaimVerdict.STRONG_GAIN_MUCH),
        ((0.00, 0.03), ClaimVerdict.STRONG_OPEN),
    ],
)
def test_the_second_half_is_about_the_gain_of_every_strong_model(several, strong_gains, verdict):
    own = [
        replace(learnt(gain, before), label=f"model-{m}")
        for m, (gain, before) in enumerate(
            zip((0.2, 0.2, 0.1, *strong_gains), (0.3, 0.4, 0.5, 0.6, 0.7), strict=True)
        )
    ]
    comparison = replace(several, model_learning=tuple(own))
    claim = baseline_claim(comparison)
    assert (claim.weak, claim.strong) == (("model-0", "model-1"), ("model-3", "model-4"))
    verdicts = claim_verdicts(comparison)
    assert verdicts.strong == verdict
    assert verdicts.by_claim["C2"] == f"{verdicts.baseline}; {verdict}"


def test_two_to_four_models_have_no_verdict_from_languages():
    verdicts = claim_verdicts(compare(study(4, seeds=1, n=40), source="arb_Arab"))
    assert verdicts.by_claim["C2"] == "not tested"


def test_every_language_and_every_family_are_tested():
    same = baseline_claim(after(gains(0.2, 0.2), 0.4))
    assert (same.every_language, same.gained, same.lost, same.languages) == (True, 16, 0, 16)
    assert (same.weak, same.strong) == (("m",), ())
    semitic = baseline_claim(after(gains(0.4, 0.1), 0.4))
    assert semitic.family_p < 0.01 < 0.1 < same.family_p
    mixed = baseline_claim(after({**gains(0.2, 0.2), "jpn_Jpan": -0.2}, 0.4))
    assert (mixed.every_language, mixed.gained, mixed.lost) == (False, 15, 1)


# Tuning and chain of thought


@pytest.mark.parametrize(
    ("difference", "se", "verdict"),
    [
        (0.000, 0.01, ClaimVerdict.EQUALLY_LARGE),
        (0.010, 0.004, ClaimVerdict.EQUALLY_LARGE),  # differs from zero, within the margin
        (0.000, 0.03, ClaimVerdict.EQUALITY_INCONCLUSIVE),
        (0.050, 0.02, ClaimVerdict.TUNING_GAINS_MORE),
        (-0.050, 0.02, ClaimVerdict.COT_GAINS_MORE),
    ],
)
def test_equality_is_tested_against_the_margin_first(difference, se, verdict):
    test = mean(difference, se)
    level = ModelLevel(learnt(0.2), learnt(0.2), test, test.p, test.p_within(0.03))
    assert level_verdict(level, 0.25, 0.03, 1) == verdict


@pytest.mark.parametrize(
    ("tuned", "cot", "verdict"),
    [
        (learnt(0.0), learnt(0.0), ClaimVerdict.NOTHING_TO_COMPARE),
        (learnt(0.0, 0.25), learnt(0.0, 0.25), ClaimVerdict.NOTHING_TO_COMPARE),
        (learnt(0.0, 0.99), learnt(0.0, 0.99), ClaimVerdict.NOTHING_TO_COMPARE),
        (learnt(0.04), learnt(0.04), ClaimVerdict.NOTHING_TO_COMPARE),  # beside the margin
        (learnt(0.07), learnt(0.05), ClaimVerdict.EQUALLY_LARGE),
    ],
)
def test_gains_of_nothing_are_not_equally_large(tuned, cot, verdict):
    level = ModelLevel(tuned, cot, mean(0.0), 1.0, 0.001)
    assert level_verdict(level, 0.25, 0.03, 1) == verdict


@pytest.mark.parametrize(
    ("differences", "between_p", "verdict"),
    [
        ((0.0, 0.0), 0.9, ClaimVerdict.EQUALLY_LARGE),
        ((0.1, 0.1), 0.01, ClaimVerdict.TUNING_GAINS_MORE),
        ((0.1, 0.0), 0.01, ClaimVerdict.DIFFERS_BY_MODEL),
        ((0.1, 0.0), 0.2, ClaimVerdict.UNEQUAL_IN_SOME),
        ((0.1, -0.1), 0.2, ClaimVerdict.DIFFERS_BY_MODEL),
        ((0.03, 0.0), 0.01, ClaimVerdict.EQUALITY_INCONCLUSIVE),
    ],
)
def test_models_share_a_verdict_or_differ(several, differences, between_p, verdict):
    between = LevelContrast(("m", "m"), mean(differences[0] - differences[1]), between_p)
    levels = [
        ModelLevel(learnt(0.2), learnt(0.2), test, test.p, test.p_within(0.03))
        for test in (
            mean(difference, 0.011 if difference == 0.03 else 0.005) for difference in differences
        )
    ]
    changed = replace(several, model_levels=tuple(levels), level_contrasts=(between,), margin=0.03)
    if verdict == ClaimVerdict.EQUALITY_INCONCLUSIVE:
        levels[0] = replace(levels[0], holm_p=0.2)
        changed = replace(changed, model_levels=tuple(levels))
    assert claim_verdicts(changed).by_claim["C3"] == verdict


def test_levels_are_the_differences_of_each_model_with_holm(several):
    first = several.model_levels[0]
    accuracies = [
        {row.code: row.after for row in several.conditions[name].models[0].languages}
        for name in (Condition.TUNED, Condition.BASE_COT)
    ]
    codes = [code for code in accuracies[0] if code not in ("arb_Arab", "ary_Arab")]
    expected = np.mean([accuracies[0][code] - accuracies[1][code] for code in codes])
    assert first.difference.estimate == pytest.approx(expected)
    ps = sorted(level.difference.p_within(0.03) for level in several.model_levels)
    assert min(level.holm_p_within for level in several.model_levels) == pytest.approx(
        min(1.0, 5 * ps[0])
    )


def test_two_models_are_compared_in_the_same_languages_with_holm(several):
    assert len(several.level_contrasts) == 10
    contrast = several.level_contrasts[0]
    first, second = (several.model_levels[m].difference for m in (0, 1))
    assert contrast.models == ("model-0", "model-1")
    assert contrast.difference.estimate == pytest.approx(first.estimate - second.estimate)
    lowest = min(each.difference.p for each in several.level_contrasts)
    assert min(each.holm_p for each in several.level_contrasts) == pytest.approx(
        min(1.0, 10 * lowest)
    )


def test_a_model_with_nothing_to_compare_makes_no_difference_between_models(several):
    one = mean(0.1, 0.005)
    levels = (
        ModelLevel(learnt(0.2), learnt(0.2), one, 0.001, 0.9),
        ModelLevel(learnt(0.2), learnt(0.2), mean(0.0, 0.05), 0.9, 0.4),
        ModelLevel(replace(learnt(0.0), label="none"), learnt(0.0), one, 0.9, 0.9),
    )
    between = LevelContrast(("m", "none"), one, 0.001)
    changed = replace(several, model_levels=levels, level_contrasts=(between,), margin=0.03)
    assert claim_verdicts(changed).by_claim["C3"] == ClaimVerdict.UNEQUAL_IN_SOME


def test_claims_without_the_runs_or_passages_they_need_are_not_tested():
    predictions = tables(gains(0.1, 0.09), n=40)
    verdicts = claim_verdicts(compare(predictions, source="arb_Arab"))
    assert verdicts.by_claim["C3"] == "not tested"
    one = {run: rows.assign(passage_id="one") for run, rows in predictions.items()}
    verdicts = claim_verdicts(compare(one, source="arb_Arab"))
    assert verdicts.by_claim["C2"] == ClaimVerdict.NOT_TESTED == "not tested"


def test_verdicts_of_models_are_adjusted_for_their_number():
    # Six models: in one, relatives gain more at p of about 0.02 by itself.
    spread = {code: 0.1 + 0.04 * np.sin(2 * i) for i, code in enumerate(CODES)}
    lifted = {code: gain + (0.05 if code in RELATED else 0) for code, gain in spread.items()}
    runs = {}
    for m in range(6):
        before, with_gain = pair(lifted if m == 0 else spread)
        runs[RunKey(f"m{m}", Condition.BASE)] = before
        runs[RunKey(f"m{m}", Condition.TUNED, "arb_Arab", "0")] = with_gain
    result = compare(runs, source="arb_Arab").conditions[Condition.TUNED]
    own = result.models[0].contrasts["accuracy"]
    assert own.verdict == Verdict.RELATED_GAIN_MORE
    assert own.permutation.p <= 0.05 < result.holm_p[0]
    assert result.verdicts[0] == Verdict.INCONCLUSIVE
