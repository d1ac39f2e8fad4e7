"""Distributions have the bits of `scipy.stats`: reports do not change with where they come from."""

import math

import numpy as np
import pytest
from scipy import stats

from isogloss.stats.distributions import chi2_quantile, normal_quantile, ranks, t_quantile, t_upper

DEGREES = (0, 1, 1.5, 2, 3.7, 9, 40, 899.5, 1e6)


@pytest.mark.parametrize("df", DEGREES)
def test_quantiles_and_tails_of_t(df: float) -> None:
    for p in (1e-6, 0.0125, 0.025, 0.2, 0.9, 0.95, 0.975, 1 - 1e-6):
        assert np.array_equal(t_quantile(p, df), stats.t.ppf(p, df), equal_nan=True)
        assert np.array_equal(-t_quantile(p, df), stats.t.isf(p, df), equal_nan=True)
    for value in (-math.inf, -40.0, -1.3, 0.0, 0.2, 1.96, 7.0, 300.0, math.inf, math.nan):
        assert np.array_equal(t_upper(value, df), stats.t.sf(value, df), equal_nan=True)


def test_quantiles_of_the_normal_distribution_and_of_chi_square() -> None:
    share_Q = (np.arange(200) + 0.5) / 200
    assert [normal_quantile(p) for p in share_Q] == stats.norm.ppf(share_Q).tolist()
    for df in DEGREES[1:]:
        assert np.array_equal(chi2_quantile(share_Q, df), stats.chi2.ppf(share_Q, df))
        assert float(chi2_quantile(0.975, df)) == stats.chi2.ppf(0.975, df)


@pytest.mark.parametrize("distinct", [1, 2, 5, 60])
def test_equal_values_have_their_mean_rank(distinct: int) -> None:
    value_N = np.random.default_rng(distinct).integers(distinct, size=60).astype(float)
    assert np.array_equal(ranks(value_N), stats.rankdata(value_N))
