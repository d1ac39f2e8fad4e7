"""Slopes of gains on baselines and on gains from chain of thought."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_predictions import CONTROL, RELATED, compare_pair, pair

from isogloss.analysis.claims import ClaimVerdict, claim_verdicts
from isogloss.analysis.comparison import compare
from isogloss.analysis.gain_slopes import _partial_correlation
from isogloss.analysis.omissions import Omission, OmissionReason, Predictor
from isogloss.analysis.passage_shares import PassageShares
from isogloss.analysis.score_matrix import RunKey
from isogloss.types import Condition, Units

CODES = (*RELATED, *CONTROL)


def regular(correct_of_ten: dict[str, int]) -> pd.DataFrame:
    """Ten passages of ten items each, with equally many correct in each: no sampling noise."""
    return pd.DataFrame(
        {
            "task": "t",
            "format": "letter",
            "language": code,
            "item_id": f"{passage}-{item}",
            "passage_id": str(passage),
            "correct": item < correct,
        }
        for code, correct in correct_of_ten.items()
        for passage in range(10)
        for item in range(10)
    )


def residuals(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    fit = stats.linregress(x, y)
    return y - fit.intercept - fit.slope * x


def test_slopes_over_languages_and_over_models(six_models):
    within, over = six_models.baseline_slopes
    assert (within.units, within.test.n_units) == (Units.LANGUAGES_WITHIN_MODELS, 16)
    assert (over.units, over.test.n_units) == (Units.MODELS, 6)
    assert over.test.interval.high < 0
    # The line passes through the mean of the models, and spans their baselines.
    in_contrast = [
        [row for row in model.languages if row.group in ("related", "control")]
        for model in six_models.models
    ]
    baselines = [np.mean([row.before for row in rows]) for rows in in_contrast]
    gains = [np.mean([row.gain for row in rows]) for rows in in_contrast]
    assert (over.x_min, over.x_max) == pytest.approx((min(baselines), max(baselines)))
    assert over.predict(np.mean(baselines)) == pytest.approx(np.mean(gains))


def test_weak_models_gain_more_over_models(six_models):
    assert claim_verdicts(six_models).baseline == ClaimVerdict.WEAK_GAIN_MORE


def test_sampling_noise_alone_does_not_make_weak_baselines_gain_more():
    # One ability in all languages, so that baselines differ by chance alone.
    rng = np.random.default_rng(0)
    before, after = pair(dict.fromkeys(CODES, 0.2), n=200)
    for rows, share in ((before, 0.4), (after, 0.6)):
        rows["correct"] = rng.random(len(rows)) < share
    comparison = compare_pair((before, after))
    (slope,) = comparison.baseline_slopes
    assert slope.test.naive < -0.5
    assert not slope.test.interval.excludes(0.0)
    assert claim_verdicts(comparison).baseline == ClaimVerdict.INCONCLUSIVE


def test_without_sampling_noise_agreement_is_ordinary_regression_and_correlation():
    rng = np.random.default_rng(1)
    base, tuned, cot = (
        dict(zip(CODES, map(int, counts), strict=True)) for counts in rng.integers(2, 9, (3, 16))
    )
    comparison = compare(
        {
            RunKey("m", Condition.BASE): regular(base),
            RunKey("m", Condition.TUNED, "arb_Arab"): regular(tuned),
            RunKey("m", Condition.BASE_COT): regular(cot),
        },
        source="arb_Arab",
    )
    before, after, thinking = (
        np.array([counts[code] for code in CODES]) / 10 for counts in (base, tuned, cot)
    )
    (slope,) = comparison.baseline_slopes
    assert slope.test.slope == pytest.approx(stats.linregress(before, after - before).slope)
    (agreement,) = comparison.gain_agreements
    test = agreement.slope.test
    expected = stats.linregress(thinking - before, after - before)
    assert (test.slope, test.correlation) == pytest.approx((expected.slope, expected.rvalue))
    partial = stats.pearsonr(
        residuals(after - before, before), residuals(thinking - before, before)
    ).statistic
    assert agreement.partial.estimate == pytest.approx(partial)
    low, high = agreement.partial.interval
    assert low < partial < high
    assert (agreement.partial.p <= 0.05) == agreement.partial.interval.excludes(0.0)
    difference = stats.ttest_1samp(after - thinking, 0)
    assert agreement.difference.estimate == pytest.approx(np.mean(after - thinking))
    assert agreement.difference.p == pytest.approx(difference.pvalue)


def test_a_shared_headroom_is_not_a_relation_at_equal_baseline():
    rng = np.random.default_rng(3)
    rejected, raw = [], []
    for _ in range(40):
        before = rng.uniform(0.3, 0.8, 16)
        tuned, cot = (
            before + share * (1 - before) + rng.normal(0, 0.05, 16) for share in (0.5, 0.4)
        )
        draws = [(rng.random((60, 16)) < share) / 60 for share in (before, tuned, cot)]
        shares = PassageShares(
            np.full((60, 16), 1 / 60),
            {"before": draws[0], "tuned": draws[1] - draws[0], "cot": draws[2] - draws[0]},
        )
        rejected.append(_partial_correlation([shares], 0).p <= 0.05)
        raw.append(np.corrcoef(tuned - before, cot - before)[0, 1])
    assert np.median(raw) > 0.5
    assert np.mean(rejected) < 0.15


def test_equal_baselines_leave_the_partial_correlation_undefined():
    rng = np.random.default_rng(2)
    tuned, cot = (
        dict(zip(CODES, map(int, counts), strict=True)) for counts in rng.integers(2, 9, (2, 16))
    )
    comparison = compare(
        {
            RunKey("m", Condition.BASE): regular(dict.fromkeys(CODES, 4)),
            RunKey("m", Condition.TUNED, "arb_Arab"): regular(tuned),
            RunKey("m", Condition.BASE_COT): regular(cot),
        },
        source="arb_Arab",
    )
    partial = comparison.gain_agreements[0].partial
    assert all(map(math.isnan, (partial.estimate, partial.p, *partial.interval)))


def test_a_single_passage_gives_no_slope_and_an_omission(runs):
    comparison = compare_pair([rows.assign(passage_id="one") for rows in runs])
    assert comparison.baseline_slopes == ()
    assert comparison.omissions == (
        Omission(
            OmissionReason.NO_SLOPE,
            predictor=Predictor.BASELINE,
            units=Units.LANGUAGES,
            problem="cross-fitting needs items from at least two passages per language.",
        ),
    )


def test_equal_gains_give_no_slope_and_no_verdict():
    baselines = dict(zip(CODES, [0.3, 0.35, 0.4, 0.45, 0.5] * 4, strict=False))
    after = {code: accuracy + 0.1 for code, accuracy in baselines.items()}
    before, tuned = pair(dict.fromkeys(CODES, 0.1))
    rows = [
        frame.assign(correct=_correct(frame, accuracy))
        for frame, accuracy in ((before, baselines), (tuned, after))
    ]
    comparison = compare_pair(rows)
    assert (comparison.baseline_slopes, comparison.ability_slopes) == ((), ())
    assert comparison.distance is None
    (omission,) = (o for o in comparison.omissions if o.reason == OmissionReason.NO_SLOPE)
    assert omission.problem == "the gain is the same in all languages."
    assert claim_verdicts(comparison).baseline == ClaimVerdict.NOT_TESTED


def _correct(rows: pd.DataFrame, accuracy: dict[str, float]) -> pd.Series:
    """The first items of each language are correct."""
    place = rows.groupby("language").cumcount()
    n = rows.groupby("language")["language"].transform("size")
    return place < (rows["language"].map(accuracy) * n).round()


def test_agreement_needs_all_three_conditions(runs):
    assert compare_pair(runs).gain_agreements == ()
