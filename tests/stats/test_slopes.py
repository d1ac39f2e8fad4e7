"""Cross-fitted slopes: against brute force, scipy and statsmodels, and in simulated noise."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats

from isogloss.errors import ComparisonError
from isogloss.stats.slopes import noise_free_scatter, pool_scatters, scatter, slope_test

RNG = np.random.default_rng(0)


def test_cross_fitted_products_average_all_halvings_of_the_passages():
    # Six passages of equal size: x on one half against y on the other, over all 20 halvings.
    x, y = RNG.normal(size=(2, 6, 5))
    weight = np.full((6, 5), 1 / 6)
    average = np.zeros((5, 5))
    for half in combinations(range(6), 3):
        rest = [p for p in range(6) if p not in half]
        x_half, y_rest = 2 * x[list(half)].sum(axis=0), 2 * y[rest].sum(axis=0)
        average += np.outer(x_half, y_rest) / 20
    centring = np.eye(5) - 1 / 5
    np.testing.assert_allclose(
        scatter(x, y, weight).crossfitted, centring @ average @ centring, atol=1e-12
    )


def test_cross_fitting_removes_the_noise_that_a_gain_shares_with_its_baseline():
    # True gain 0.2 in every language; baselines truly differ little beside their noise.
    rng = np.random.default_rng(2)
    naive, crossfitted = [], []
    for _ in range(60):
        truth = 0.5 + rng.normal(0, 0.05, 30)
        base, tuned = (rng.random((40, 30)) < share for share in (truth, truth + 0.2))
        base, tuned = base / 40, tuned / 40
        weight = np.full((40, 30), 1 / 40)
        test = slope_test(
            scatter(tuned - base, base, weight),
            scatter(base, base, weight),
            scatter(tuned - base, tuned - base, weight),
            draws=19,
        )
        naive.append(test.naive)
        crossfitted.append(test.slope)
    assert np.mean(naive) < -0.5
    assert np.nanmedian(crossfitted) == pytest.approx(0, abs=0.25)


def test_the_exact_p_equals_scipy_over_pairings():
    x, y = RNG.normal(size=(2, 6))
    of = [noise_free_scatter(*pair) for pair in ((y, x), (x, x), (y, y))]
    ours = slope_test(*of, studentized=False)
    peer = stats.permutation_test(
        (x,),
        lambda x: abs(stats.pearsonr(x, y).statistic),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=np.inf,
    )
    assert ours.exact
    assert ours.permutations == math.factorial(6)
    assert ours.p == pytest.approx(peer.pvalue)
    assert ours.correlation == pytest.approx(stats.pearsonr(x, y).statistic)
    assert ours.slope == ours.naive == pytest.approx(stats.linregress(x, y).slope)


def test_the_correlation_of_ranks_is_spearmans():
    x, y = RNG.integers(0, 5, 20), RNG.normal(size=20)
    ranks = stats.rankdata(x), stats.rankdata(y)
    ours = slope_test(
        noise_free_scatter(ranks[1], ranks[0]),
        noise_free_scatter(ranks[0], ranks[0]),
        noise_free_scatter(ranks[1], ranks[1]),
        studentized=False,
    )
    peer = stats.spearmanr(x, y)
    assert ours.correlation == pytest.approx(peer.statistic)
    assert ours.p == pytest.approx(peer.pvalue, abs=0.03)
    assert ours.p >= 1 / ours.permutations


@pytest.mark.parametrize("studentized", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_contains_exactly_the_slopes_that_are_not_rejected(seed, studentized):
    rng = np.random.default_rng(seed)
    weight = np.full((20, 12), 1 / 20)
    x, noise = rng.normal(size=12), rng.normal(0, 0.05, (2, 20, 12))
    x, y = x / 20 + noise[0], (0.4 * x + rng.normal(0, 0.3, 12)) / 20 + noise[1]

    def test(b):
        left = y - b * x
        of = [scatter(*pair, weight) for pair in ((left, x), (x, x), (left, left))]
        return slope_test(*of, draws=399, studentized=studentized)

    at_zero = test(0.0)
    low, high = at_zero.interval
    assert low < at_zero.slope < high
    # A slope is inside if and only if y with that slope subtracted is not rejected.
    for b in np.linspace(low - 1, high + 1, 201):
        if min(abs(b - low), abs(b - high)) > 0.01:
            assert (test(b).p > 0.05) == (low <= b <= high)


def test_p_equals_a_plain_loop_over_hc3_t_values():
    from statsmodels.api import OLS, add_constant

    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 6))
    x, y = x - x.mean(), y - y.mean()
    test = slope_test(noise_free_scatter(y, x), noise_free_scatter(x, x), noise_free_scatter(y, y))
    t = [
        abs(OLS(y, add_constant(x[list(order)])).fit(cov_type="HC3").tvalues[1])
        for order in permutations(range(6))
    ]
    assert test.p == pytest.approx(np.mean(np.array(t) >= t[0] * (1 - 1e-9)))


def test_false_positives_stay_near_5_percent_with_few_items_or_heteroscedastic_residuals():
    # True baselines barely vary, without any relation; then residuals whose spread grows with x.
    rng = np.random.default_rng(6)
    noisy, fanned = [], []
    weight = np.full((30, 16), 1 / 30)
    for _ in range(300):
        truth = 0.5 + rng.normal(0, 0.03, 16)
        base, tuned = ((rng.random((30, 16)) < share) / 30 for share in (truth, truth + 0.2))
        of = [scatter(*pair, weight) for pair in ((tuned - base, base), (base, base), (base, base))]
        noisy.append(slope_test(*of, draws=199).p <= 0.05)
        x = rng.normal(size=16)
        y = rng.normal(size=16) * x
        of = [noise_free_scatter(*pair) for pair in ((y, x), (x, x), (y, y))]
        fanned.append(
            [slope_test(*of, draws=199, studentized=each).p <= 0.05 for each in (True, False)]
        )
    assert np.mean(noisy) <= 0.08
    robust, raw = np.mean(fanned, axis=0)
    assert robust <= 0.12 < raw


def test_the_interval_is_unbounded_where_baselines_do_not_vary():
    rng = np.random.default_rng(3)
    weight = np.full((30, 10), 1 / 30)
    base, gain = rng.normal(size=(2, 30, 10)) / 30
    test = slope_test(
        scatter(gain, base, weight), scatter(base, base, weight), scatter(gain, gain, weight)
    )
    assert test.interval == (-math.inf, math.inf)


def test_pooling_adds_the_products_within_models():
    x, y = RNG.normal(size=(2, 8, 5))
    weight = np.full((8, 5), 1 / 8)
    first, second = scatter(x, y, weight), scatter(y, x, weight)
    np.testing.assert_allclose(
        pool_scatters([first, second]).crossfitted, first.crossfitted + second.crossfitted
    )


def test_one_passage_or_two_units_raise():
    with pytest.raises(ComparisonError, match="at least two passages"):
        scatter(np.ones((1, 4)), np.ones((1, 4)), np.ones((1, 4)))
    x = np.arange(2.0)
    with pytest.raises(ComparisonError, match="at least 3 units, but got 2"):
        slope_test(noise_free_scatter(x, x), noise_free_scatter(x, x), noise_free_scatter(x, x))


def test_six_models_near_a_line_give_the_smallest_p_and_a_tight_interval():
    x = np.array([0.2, 0.3, 0.35, 0.5, 0.6, 0.7])
    y = 0.4 - 0.6 * x + np.array([0.002, -0.001, 0.001, 0.0, -0.002, 0.001])
    test = slope_test(noise_free_scatter(y, x), noise_free_scatter(x, x), noise_free_scatter(y, y))
    assert (test.exact, test.bounded, test.p) == (True, True, 1 / 720)
    assert test.interval.low < -0.6 < test.interval.high < -0.5
