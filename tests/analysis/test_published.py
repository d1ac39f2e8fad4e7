"""The published analysis beside ours: its numbers, and when both find the same."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from synthetic_predictions import CONTROL, RELATED, compare_pair, gains, pair, study, without_gain

from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.analysis.frames import gains_frame, published_frame
from isogloss.analysis.published import (
    BASELINE,
    Agreement,
    Finding,
    published_analysis,
)
from isogloss.analysis.published import (
    RELATED as RELATED_TERM,
)
from isogloss.types import Condition, Group
from scripts.published_simulation import DESIGNS, findings


def uneven(related: float, control: float, slope: float, **options: float) -> Comparison:
    """One model whose gains follow kinship and, with `slope`, baselines between 30 and 60%."""
    codes = (*RELATED, *CONTROL)
    base = {code: 0.3 + 0.3 * (7 * i % 16) / 15 for i, code in enumerate(codes)}
    gain = gains(related, control)
    before, _ = pair(gain, n=400)
    parts = []
    for code, rows in before.groupby("language", sort=False):
        i = np.arange(len(rows))
        share = base[code]
        tuned = share + gain[code] + slope * (share - 0.45)
        parts.append((rows.assign(correct=i < 400 * share), rows.assign(correct=i < 400 * tuned)))
    return compare_pair([pd.concat(rows) for rows in zip(*parts, strict=True)], **options)


def of_models(comparison: Comparison) -> pd.DataFrame:
    """The rows of gains.csv that the regression uses."""
    rows = gains_frame(comparison)
    names = {model.label for model in comparison.models}
    used = rows["model"].isin(names) & (rows["condition"] == comparison.condition)
    return rows[used & rows["group"].isin([Group.RELATED, Group.CONTROL])]


def test_the_regression_is_that_of_statsmodels_over_models_and_languages(six_models):
    from statsmodels.formula.api import ols

    rows = of_models(six_models).assign(related=lambda rows: 1.0 * (rows["group"] == "related"))
    peer = ols("gain ~ before + related", rows).fit()
    ours = published_analysis(six_models).regression
    assert ours.n == len(rows) == 6 * 16  # without the source and its variety
    assert ours.r_squared == pytest.approx(peer.rsquared)
    for name, term in (("before", BASELINE), ("related", RELATED_TERM)):
        assert ours.coefficients[term].estimate == pytest.approx(peer.params[name])
        assert ours.coefficients[term].se == pytest.approx(peer.bse[name])
        assert ours.coefficients[term].p == pytest.approx(peer.pvalues[name])


@pytest.mark.parametrize("models", [1, 7])
def test_it_needs_one_model_and_takes_seven(models):
    analysis = published_analysis(compare(study(models, seeds=1, n=20), source="arb_Arab"))
    assert analysis.regression.n == 16 * models
    assert len(analysis.gains) == 18 * models


def test_equal_baselines_have_no_regression_but_their_intervals(runs):
    analysis = published_analysis(compare_pair(runs))
    assert analysis.regression is None
    assert "constant or redundant" in analysis.problem
    assert analysis.kinship.agreement == analysis.baseline.agreement == Agreement.NOT_COMPARABLE
    assert {gain.published for gain in analysis.gains} == {Finding.POSITIVE}
    assert set(published_frame(compare_pair(runs))["analysis"]) == {"McNemar"}


def test_the_published_gain_is_the_paired_gain_with_mcnemars_exact_p():
    from statsmodels.stats.contingency_tables import mcnemar

    tables = study(1, seeds=1, sources=("arb_Arab",), n=60)
    before, after = (
        next(rows for run, rows in tables.items() if run.condition == condition)
        for condition in (Condition.BASE, Condition.TUNED)
    )
    for gain in published_analysis(compare(tables, source="arb_Arab")).gains:
        own = before["language"] == gain.row.code
        counts = pd.crosstab(before["correct"][own], after["correct"][own])
        assert gain.row.mcnemar_p == pytest.approx(mcnemar(counts, exact=True).pvalue)
        won, lost = counts.loc[False, True], counts.loc[True, False]
        half = 1.959964 * math.sqrt(won + lost - (won - lost) ** 2 / 60) / 60
        assert gain.row.gain == pytest.approx((won - lost) / 60)
        assert gain.row.mcnemar_low == pytest.approx(max(-1, (won - lost) / 60 - half), abs=1e-6)


@pytest.mark.parametrize(
    ("design", "published", "ours", "agreement"),
    [
        (((0.2, 0.1, 0), {}), Finding.POSITIVE, Finding.POSITIVE, Agreement.AGREE),
        (((0.1, 0.2, 0), {}), Finding.NEGATIVE, Finding.NEGATIVE, Agreement.AGREE),
        (((0.1, 0.1, 0), {}), Finding.NONE, Finding.NONE, Agreement.AGREE),
        (((0.1, 0.1, 0), {"margin": 0.001}), Finding.NONE, Finding.OPEN, Agreement.IN_PART),
        (((0.2, 0.1, 0), {"margin": 0.2}), Finding.POSITIVE, Finding.NONE, Agreement.IN_PART),
        # At equal baseline the difference is significant; without that it is lost in the spread.
        (((0.11, 0.1, 0.8), {}), Finding.POSITIVE, Finding.OPEN, Agreement.DISAGREE),
    ],
    ids=["more", "less", "equal", "open", "within the margin", "baseline"],
)
def test_kinship_is_compared_with_the_verdict(design, published, ours, agreement):
    numbers, options = design
    kinship = published_analysis(uneven(*numbers, **options)).kinship
    assert (kinship.published, kinship.ours, kinship.agreement) == (published, ours, agreement)


@pytest.mark.parametrize(("slope", "finding"), [(0.5, Finding.POSITIVE), (-0.5, Finding.NEGATIVE)])
def test_the_baseline_is_compared_with_the_cross_fitted_slope(slope, finding):
    analysis = published_analysis(uneven(0.2, 0.2, slope))
    assert analysis.regression.coefficients[BASELINE].estimate == pytest.approx(slope, abs=0.02)
    assert analysis.baseline.published == analysis.baseline.ours == finding
    assert analysis.baseline.agreement == Agreement.AGREE


def test_noise_alone_makes_weak_baselines_gain_more_in_the_published_analysis_only():
    comparison = compare(without_gain(), source="arb_Arab")
    baseline = published_analysis(comparison).baseline
    assert (baseline.published, baseline.ours) == (Finding.NEGATIVE, Finding.OPEN)
    assert baseline.agreement == Agreement.DISAGREE
    assert comparison_metrics(comparison)["published/claims_that_disagree"] == 1


def test_without_any_gain_the_published_slope_is_biased_and_the_cross_fitted_one_is_not():
    studies = findings(DESIGNS["no gain, one model, 100 items"], 80)
    published, ours = ([each[k] for each in studies] for k in (0, 1))
    assert np.mean(published) < -0.5
    assert abs(np.nanmedian(ours)) < 0.25
    published_p, our_p = (np.array([each[k] for each in studies]) for k in (2, 3))
    assert np.mean(published_p <= 0.05) > 0.4
    assert np.mean(our_p <= 0.05) < 0.12


def test_models_that_share_languages_make_the_published_analysis_find_kinship():
    studies = findings(DESIGNS["gains differ by language, seven models, 100 items"], 80)
    published_p, our_p = (np.array([each[k] for each in studies]) for k in (4, 5))
    assert np.mean(published_p <= 0.05) > 0.2
    assert np.mean(our_p <= 0.05) < 0.12


def test_the_frame_holds_every_coefficient_and_gain_with_ours_beside(six_models):
    rows = published_frame(six_models)
    analysis = published_analysis(six_models)
    assert list(rows["term"][:3]) == ["intercept", BASELINE, RELATED_TERM]
    assert list(rows["claim"][:3]) == ["", "C2", "C1"]
    assert len(rows) == 3 + 6 * 18
    related = rows.iloc[2]
    assert related["estimate"] == analysis.regression.coefficients[RELATED_TERM].estimate
    assert related["our_estimate"] == six_models.contrast.estimate
    assert related["agreement"] == analysis.kinship.agreement
    assert rows["our_estimate"][1] == six_models.baseline_slopes[-1].test.slope
    first, gain = rows.iloc[3], analysis.gains[0]
    assert (first["language"], first["estimate"]) == (gain.row.code, gain.row.gain)
    assert (first["our_low_95"], first["our_p"]) == (gain.row.low, gain.row.holm_p)
    assert (rows["agreement"][3:] == "disagree").sum() == len(analysis.differing)


def test_metrics_hold_the_regression_and_the_counts(six_models):
    values, analysis = comparison_metrics(six_models), published_analysis(six_models)
    coefficient = analysis.regression.coefficients[BASELINE]
    assert values["published/baseline"] == coefficient.estimate
    assert values["published/baseline_se"] == coefficient.se
    assert values["published/related_p"] == analysis.regression.coefficients[RELATED_TERM].p
    assert values["published/r_squared"] == analysis.regression.r_squared
    assert values["published/observations"] == 96
    published = [gain.published for gain in analysis.gains]
    assert values["published/gains"] == published.count(Finding.POSITIVE)
    assert values["published/losses"] == published.count(Finding.NEGATIVE)
    assert values["published/gains_that_differ"] == len(analysis.differing)


def test_a_gain_that_only_one_analysis_finds_differs(six_models):
    gain = published_analysis(six_models).gains[0]
    for published, ours, agreement in (
        (Finding.POSITIVE, Finding.POSITIVE, Agreement.AGREE),
        (Finding.NONE, Finding.OPEN, Agreement.AGREE),
        (Finding.POSITIVE, Finding.OPEN, Agreement.DISAGREE),
        (Finding.NONE, Finding.NEGATIVE, Agreement.DISAGREE),
    ):
        changed = dataclasses.replace(gain, published=published, ours=ours)
        assert changed.agreement == agreement
