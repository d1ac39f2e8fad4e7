"""The statistics, against their peers and against what must be true of them."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from isogloss.errors import ComparisonError, ConfigError
from isogloss.stats.contrasts import relatedness_contrast
from isogloss.stats.permutation import attained_level, permutation_test
from isogloss.stats.power import minimum_detectable_effect
from isogloss.stats.t_tests import mean_test

GAIN = np.array([0.08, 0.11, 0.02, 0.07, 0.05, 0.01, 0.06, 0.03, 0.04, -0.01, 0.02, 0.05])
RELATED = np.array([True] * 4 + [False] * 8)

# Gains as a few hundred items give them: multiples of 1/400, so that ties occur.
gains = st.lists(st.integers(-80, 80).map(lambda k: k / 400), min_size=5, max_size=10)
quick = settings(deadline=None, max_examples=60)


@st.composite
def labelled(draw):
    gain = np.array(draw(gains))
    n_related = draw(st.integers(2, len(gain) - 2))
    related = np.zeros(len(gain), dtype=bool)
    related[draw(st.permutations(range(len(gain))))[:n_related]] = True
    return gain, related


@pytest.mark.parametrize("seed", range(4))
def test_the_permutation_p_is_that_of_scipy(seed):
    gain = np.random.default_rng(seed).normal(size=12) + RELATED * 0.6
    peer = stats.permutation_test(
        (gain[RELATED], gain[~RELATED]),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        vectorized=True,
        n_resamples=np.inf,
    )
    ours = permutation_test(gain, RELATED)
    assert ours.exact
    assert ours.relabellings == math.comb(12, 4)
    assert ours.p == pytest.approx(peer.pvalue, abs=1e-12)


def test_the_permutation_p_counts_ties_as_scipy_does():
    peer = stats.permutation_test(
        (GAIN[RELATED], GAIN[~RELATED]),
        lambda x, y: x.mean() - y.mean(),
        n_resamples=np.inf,
    )
    assert permutation_test(GAIN, RELATED).p == pytest.approx(peer.pvalue, abs=1e-12)


def test_welch_is_that_of_scipy():
    peer = stats.ttest_ind(GAIN[RELATED], GAIN[~RELATED], equal_var=False)
    ours = relatedness_contrast(GAIN, RELATED, 0.03).welch
    assert (ours.t, ours.df, ours.p) == pytest.approx((peer.statistic, peer.df, peer.pvalue))
    assert ours.interval == pytest.approx(tuple(peer.confidence_interval(0.95)))


@pytest.mark.parametrize("margin", [0.01, 0.03, 0.1])
def test_two_one_sided_tests_are_those_of_statsmodels(margin):
    from statsmodels.stats.weightstats import ttost_ind

    peer = ttost_ind(GAIN[RELATED], GAIN[~RELATED], -margin, margin, usevar="unequal")[0]
    assert relatedness_contrast(GAIN, RELATED, margin).tost_p == pytest.approx(peer)


@quick
@given(labelled())
def test_swapping_the_groups_flips_the_sign_and_nothing_else(data):
    gain, related = data
    ours = relatedness_contrast(gain, related, 0.03)
    swapped = relatedness_contrast(gain, ~related, 0.03)
    assert swapped.estimate == pytest.approx(-ours.estimate)
    assert swapped.permutation.p == ours.permutation.p
    assert swapped.welch.p == pytest.approx(ours.welch.p)
    assert swapped.permutation.interval_95.low == pytest.approx(-ours.permutation.interval_95.high)


@quick
@given(labelled(), st.integers(-400, 400))
def test_a_gain_that_everyone_gets_leaves_the_contrast_alone(data, k):
    gain, related = data
    ours = relatedness_contrast(gain, related, None)
    shifted = relatedness_contrast(gain + k / 400, related, None)
    assert shifted.estimate == pytest.approx(ours.estimate, abs=1e-9)
    assert shifted.permutation.p == ours.permutation.p
    assert shifted.permutation.interval_90 == pytest.approx(ours.permutation.interval_90, abs=1e-9)
    assert shifted.welch.se == pytest.approx(ours.welch.se, abs=1e-9)


@quick
@given(labelled(), st.sampled_from([0.01, 0.5, 3.0, 100.0]))
def test_the_contrast_scales_with_its_unit(data, scale):
    gain, related = data
    ours = relatedness_contrast(gain, related, 0.03)
    scaled = relatedness_contrast(gain * scale, related, 0.03 * scale)
    assert scaled.estimate == pytest.approx(ours.estimate * scale)
    assert scaled.permutation.p == ours.permutation.p
    assert scaled.permutation.interval_95.high == pytest.approx(
        ours.permutation.interval_95.high * scale
    )
    assert scaled.minimum_detectable_effect == pytest.approx(
        ours.minimum_detectable_effect * scale, nan_ok=True
    )


@quick
@given(labelled(), st.sampled_from([0.05, 0.10]))
def test_the_interval_inverts_the_test(data, alpha):
    gain, related = data
    test = permutation_test(gain, related)
    low, high = test.interval_95 if alpha == 0.05 else test.interval_90
    step = 1e-6
    if math.isinf(low):
        # Then no shift at all is rejected.
        assert math.isinf(high)
        assert permutation_test(gain - 50 * related, related).p > alpha
        return
    assume(high - low > 2 * step)
    for inside in (low, low + step, high - step, high):
        assert permutation_test(gain - inside * related, related).p > alpha
    for outside in (low - step, high + step):
        assert permutation_test(gain - outside * related, related).p <= alpha


@quick
@given(labelled())
def test_the_interval_excludes_zero_exactly_when_p_is_at_most_five_percent(data):
    test = permutation_test(*data)
    assert test.interval_95.excludes(0.0) == (test.p <= 0.05)
    assert test.interval_90.excludes(0.0) == (test.p <= 0.10)


def test_the_minimum_detectable_effect_is_that_of_the_noncentral_t():
    from statsmodels.stats.power import TTestIndPower

    effect = minimum_detectable_effect(0.05, 8, 16)
    peer = TTestIndPower().solve_power(
        nobs1=8, ratio=2, alpha=attained_level(8, 16, 0.05), power=0.8, alternative="two-sided"
    )
    assert effect == pytest.approx(0.05 * peer, rel=1e-3)
    contrast = relatedness_contrast(GAIN, RELATED, 0.03)
    spread = math.sqrt((3 * GAIN[RELATED].var(ddof=1) + 7 * GAIN[~RELATED].var(ddof=1)) / 10)
    assert contrast.spread == pytest.approx(spread)
    assert contrast.minimum_detectable_effect == minimum_detectable_effect(contrast.spread, 4, 8)


def test_the_minimum_detectable_effect_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    effect = minimum_detectable_effect(1.0, 4, 8)
    found = [
        permutation_test(rng.normal(size=12) + effect * RELATED, RELATED).p <= 0.05
        for _ in range(600)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_too_few_languages_detect_nothing():
    assert minimum_detectable_effect(0.05, 2, 3) == math.inf


def test_the_mean_test_is_that_of_scipy():
    peer = stats.ttest_1samp(GAIN, 0)
    ours = mean_test(GAIN)
    assert (ours.estimate, ours.p) == pytest.approx((GAIN.mean(), peer.pvalue))
    for level, interval in ((0.95, ours.interval_95), (0.9, ours.interval_90)):
        assert interval == pytest.approx(tuple(peer.confidence_interval(level)))
    assert (mean_test([0.0, 0.0]).p, mean_test([0.1, 0.1]).p) == (1, 0)
    with pytest.raises(ComparisonError, match="at least 2 values"):
        mean_test([0.1])


@quick
@given(labelled(), st.randoms(use_true_random=False))
def test_relabelling_languages_within_a_group_moves_nothing(data, random):
    gain, related = data
    order = list(range(len(gain)))
    random.shuffle(order)
    ours = relatedness_contrast(gain, related, 0.03)
    moved = relatedness_contrast(gain[order], related[order], 0.03)
    assert moved.estimate == pytest.approx(ours.estimate)
    assert moved.permutation.p == ours.permutation.p
    assert moved.permutation.interval_95.low == pytest.approx(ours.permutation.interval_95.low)


def test_many_languages_are_relabelled_by_seeded_draws_that_agree_with_the_exact_test(monkeypatch):
    exact = permutation_test(GAIN, RELATED)
    monkeypatch.setattr("isogloss.stats.permutation.MAX_RELABELLINGS", 400)
    drawn = permutation_test(GAIN, RELATED, seed=3)
    assert not drawn.exact
    assert drawn.relabellings == 401
    assert drawn == permutation_test(GAIN, RELATED, seed=3)
    assert drawn.p == pytest.approx(exact.p, abs=0.06)
    assert drawn.interval_90 == pytest.approx(exact.interval_90, abs=0.02)
    far = permutation_test(GAIN + RELATED, RELATED, seed=3)
    assert far.p >= 2 / 401


@pytest.mark.parametrize(
    ("related", "control", "verdict"),
    [
        ([0.20, 0.22, 0.21, 0.23], 0.05, "related gain more"),
        ([-0.20, -0.22, -0.21, -0.23], 0.05, "related gain less"),
        ([0.051, 0.049, 0.050, 0.052], 0.05, "equivalent"),
        ([0.150, -0.10, 0.120, -0.05], 0.05, "inconclusive"),
    ],
)
def test_each_verdict_is_reached(related, control, verdict):
    spread = np.linspace(-0.004, 0.004, 10)
    gain = np.concatenate([related, control + spread])
    labels = np.array([True] * 4 + [False] * 10)
    assert relatedness_contrast(gain, labels, 0.03).verdict == verdict


def test_a_difference_within_the_margin_is_equivalent_even_when_it_differs_from_zero():
    gain = np.concatenate([[0.060, 0.061, 0.062, 0.063], np.linspace(0.050, 0.054, 10)])
    labels = np.array([True] * 4 + [False] * 10)
    contrast = relatedness_contrast(gain, labels, 0.03)
    assert contrast.permutation.p < 0.05
    assert contrast.verdict == "equivalent"
    assert relatedness_contrast(gain, labels, None).verdict == "related gain more"


def test_too_few_relabellings_bound_the_contrast_by_nothing():
    contrast = relatedness_contrast([0.9, 0.8, 0.1, 0.0, 0.05], [True, True, *[False] * 3], 0.03)
    assert contrast.permutation.interval_95 == (-math.inf, math.inf)
    assert contrast.permutation.p == 2 / 10
    assert contrast.verdict == "inconclusive"


@pytest.mark.parametrize("value", [0.0, 0.1, -0.3])
def test_gains_that_are_all_equal_are_equivalent_with_no_detectable_effect_defined(value):
    contrast = relatedness_contrast([value] * 12, RELATED, 0.03)
    assert contrast.estimate == pytest.approx(0)
    assert contrast.permutation.p == 1
    assert contrast.permutation.interval_95 == (0, 0)
    assert (contrast.welch.se, contrast.welch.p, contrast.tost_p) == (0, 1, 0)
    assert math.isnan(contrast.minimum_detectable_effect)
    assert contrast.verdict == "equivalent"


@pytest.mark.parametrize("n_related", [0, 1, 11, 12])
def test_a_group_of_fewer_than_two_languages_is_refused(n_related):
    with pytest.raises(ComparisonError, match=f"got {n_related} related and {12 - n_related}"):
        relatedness_contrast(GAIN, np.arange(12) < n_related, 0.03)


def test_a_gain_that_is_not_finite_is_refused():
    with pytest.raises(ComparisonError, match="must be finite, but got nan"):
        relatedness_contrast([math.nan, *GAIN[1:]], RELATED, 0.03)


@pytest.mark.parametrize("margin", [0.0, -0.03, math.inf, math.nan])
def test_a_margin_that_is_not_positive_is_refused(margin):
    with pytest.raises(ConfigError, match="`margin` must be positive but got"):
        relatedness_contrast(GAIN, RELATED, margin)
