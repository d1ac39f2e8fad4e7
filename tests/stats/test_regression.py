"""Ordinary least squares: against statsmodels, and how it changes with its data."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.errors import ComparisonError
from isogloss.stats.regression import INTERCEPT, least_squares

quick = settings(deadline=None, max_examples=60)


def data(seed, n=16):
    """Gains, baselines and a related-language indicator of `n` languages."""
    rng = np.random.default_rng(seed)
    related = np.arange(n) < n // 4
    baseline = rng.uniform(0.2, 0.9, n)
    return 0.3 - 0.4 * baseline + 0.05 * related + rng.normal(0, 0.03, n), baseline, related


def fit_of(gain, baseline, related):
    return least_squares(gain, {"baseline": baseline, "related": related})


@quick
@given(seed=st.integers(0, 10_000), n=st.integers(8, 60))
def test_every_number_equals_statsmodels(seed, n):
    from statsmodels.api import OLS, add_constant

    gain, baseline, related = data(seed, n)
    ours = fit_of(gain, baseline, related)
    peer = OLS(gain, add_constant(np.column_stack([baseline, related]))).fit()
    coefficients = list(ours.coefficients.values())
    assert list(ours.coefficients) == [INTERCEPT, "baseline", "related"]
    np.testing.assert_allclose([each.estimate for each in coefficients], peer.params)
    np.testing.assert_allclose([each.se for each in coefficients], peer.bse)
    np.testing.assert_allclose([each.p for each in coefficients], peer.pvalues)
    np.testing.assert_allclose([each.interval for each in coefficients], peer.conf_int())
    assert ours.r_squared == pytest.approx(peer.rsquared)
    assert (ours.n, ours.df) == (n, peer.df_resid)


@quick
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.1, 100),
    shift=st.floats(-1, 1),
    slope=st.floats(-2, 2),
)
def test_scaling_shifting_and_tilting_the_gains_does_the_same_to_the_coefficients(
    seed, scale, shift, slope
):
    gain, baseline, related = data(seed)
    before = fit_of(gain, baseline, related)
    after = fit_of(scale * gain + shift + slope * baseline, baseline, related)
    added = {INTERCEPT: shift, "baseline": slope, "related": 0.0}
    for name, coefficient in before.coefficients.items():
        changed = after.coefficients[name]
        assert changed.estimate == pytest.approx(scale * coefficient.estimate + added[name])
        assert changed.se == pytest.approx(scale * coefficient.se)
    assert after.coefficients["related"].p == pytest.approx(before.coefficients["related"].p)


@quick
@given(seed=st.integers(0, 10_000))
def test_the_order_of_observations_does_not_matter(seed):
    columns = np.array(data(seed))
    order = np.random.default_rng(seed).permutation(columns.shape[1])
    before, after = fit_of(*columns), fit_of(*columns[:, order])
    assert after.r_squared == pytest.approx(before.r_squared)
    for name, coefficient in before.coefficients.items():
        assert after.coefficients[name].p == pytest.approx(coefficient.p)


def test_without_a_baseline_the_coefficient_is_a_difference_of_means():
    gain, _, related = data(0)
    fit = least_squares(gain, {"related": related})
    difference = gain[related].mean() - gain[~related].mean()
    assert fit.coefficients["related"].estimate == pytest.approx(difference)


@pytest.mark.parametrize("gain", [0.0, 0.1, -1 / 3])
def test_gains_that_do_not_vary_have_no_effect_and_no_r_squared(gain):
    _, baseline, related = data(0)
    fit = fit_of(np.full(16, gain), baseline, related)
    assert math.isnan(fit.r_squared)
    assert fit.coefficients[INTERCEPT].estimate == pytest.approx(gain)
    for name in ("baseline", "related"):  # and not 1e-17, with the p of rounding
        assert fit.coefficients[name] == (0, 0, (0, 0), 1)


def test_an_exact_line_has_no_error():
    _, baseline, related = data(0)
    fit = fit_of(0.3 - 0.5 * baseline, baseline, related)
    assert fit.coefficients["baseline"].estimate == pytest.approx(-0.5)
    assert fit.coefficients["baseline"].p == 0
    assert fit.coefficients["related"].p == 1
    assert fit.r_squared == pytest.approx(1)


@pytest.mark.parametrize(
    ("n", "baseline", "message"),
    [
        (3, [0.3, 0.5, 0.6], "3 coefficients needs at least 4 observations, but got 3"),
        (8, [0.4] * 8, "baseline and related is not possible: in these 8 observations"),
        (8, [0.4] * 2 + [0.6] * 6, "they are constant or redundant"),
    ],
)
def test_too_few_or_redundant_observations_raise(n, baseline, message):
    gain, _, related = data(0, n)
    related = np.arange(n) < max(1, n // 4)
    with pytest.raises(ComparisonError, match=message):
        fit_of(gain, baseline, related)
