"""Gains of one language: against statsmodels, inspect_ai and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from isogloss.errors import ComparisonError
from isogloss.stats.paired import (
    clustered_standard_error,
    holm,
    mcnemar_exact,
    mcnemar_interval,
    paired_gain,
)

quick = settings(deadline=None, max_examples=60)


def test_the_clustered_error_equals_statsmodels_and_inspect_ai():
    from statsmodels.api import OLS

    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(40), rng.integers(1, 4, 40))
    value = rng.normal(size=40)[cluster] + rng.normal(size=len(cluster))
    fit = OLS(value, np.ones(len(value))).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    assert clustered_standard_error(value, cluster) == pytest.approx(fit.bse[0], rel=1e-12)
    # inspect_ai, scorer/_metrics/std.py: sum of outer products of residuals within a cluster.
    inspect_ai = sum(
        np.outer(value[cluster == c] - value.mean(), value[cluster == c] - value.mean()).sum()
        for c in np.unique(cluster)
    )
    inspect_ai = np.sqrt(inspect_ai * 40 / 39) / len(value)
    assert clustered_standard_error(value, cluster) == pytest.approx(inspect_ai, rel=1e-12)


def test_with_one_item_per_cluster_the_error_is_the_standard_error_of_the_mean():
    value = np.random.default_rng(1).normal(size=50)
    names = [f"passage {i}" for i in range(50)]
    assert clustered_standard_error(value, names) == pytest.approx(stats.sem(value))


def test_with_one_cluster_the_error_is_nan_and_not_zero():
    assert math.isnan(clustered_standard_error([0, 1, 1], ["a", "a", "a"]))
    assert math.isnan(paired_gain([0, 1], [1, 1], ["a", "a"]).interval.low)


@pytest.mark.parametrize(("value", "cluster"), [([], []), ([1.0, 2.0], ["a"])])
def test_arrays_of_different_length_or_without_values_raise(value, cluster):
    with pytest.raises(ComparisonError, match="one cluster for each value"):
        clustered_standard_error(value, cluster)


@quick
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_equals_statsmodels(pairs):
    from statsmodels.stats.contingency_tables import mcnemar

    base, tuned = np.array(pairs).T
    counts = [[(base & tuned).sum(), (base & ~tuned).sum()]]
    counts += [[(~base & tuned).sum(), (~base & ~tuned).sum()]]
    assert mcnemar_exact(base, tuned) == pytest.approx(mcnemar(counts, exact=True).pvalue)


@settings(deadline=None, max_examples=15)  # statsmodels is slow
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_equals_statsmodels(p):
    from statsmodels.stats.multitest import multipletests

    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12)


def test_the_error_of_a_gain_is_that_of_the_paired_differences():
    base = np.array([0, 0, 1, 1, 0, 1, 0, 0], dtype=bool)
    tuned = np.array([1, 0, 1, 1, 1, 0, 1, 0], dtype=bool)
    cluster = [0, 0, 1, 1, 2, 2, 3, 3]
    gain = paired_gain(base, tuned, cluster)
    difference = tuned.astype(float) - base
    assert (gain.before, gain.after) == (0.375, 0.625)
    assert gain.gain == difference.mean()
    assert gain.se == clustered_standard_error(difference, cluster)
    half = gain.se * stats.t.ppf(0.975, 3)
    assert gain.interval == pytest.approx((0.25 - half, 0.25 + half))
    assert gain.mcnemar_p == mcnemar_exact(base, tuned)


def test_p_is_the_largest_of_three():
    base, tuned = np.zeros(8), np.ones(8)
    all_changed = paired_gain(base, tuned, range(8))
    assert (all_changed.se, all_changed.t_p, all_changed.p) == (0, 0, 2 * 0.5**8)
    two_passages = paired_gain(base, tuned, np.repeat([0, 1], 4))
    assert two_passages.p == 0.5
    unchanged = paired_gain(base, base, range(8))
    assert (unchanged.gain, unchanged.p) == (0, 1)


def test_means_over_seeds_have_no_mcnemar_p():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2, 40)
    gain = paired_gain(base, rng.integers(0, 2, (3, 40)).mean(axis=0), range(40))
    assert math.isnan(gain.mcnemar_p)
    assert gain.p == gain.t_p


def test_mcnemars_interval_is_the_wald_interval_of_its_discordant_items():
    # 20 right twice, 12 won, 2 lost, 16 wrong twice: 0.2 +- 1.96 sqrt(14 - 10^2 / 50) / 50.
    before = np.repeat([1, 0, 1, 0], [20, 12, 2, 16])
    after = np.repeat([1, 1, 0, 0], [20, 12, 2, 16])
    assert mcnemar_interval(before, after) == pytest.approx((0.06421, 0.33579), abs=5e-6)


@quick
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_mcnemars_interval_equals_statsmodels_without_clusters(pairs):
    from statsmodels.api import OLS

    before, after = np.array(pairs, dtype=float).T
    if np.ptp(after - before) == 0:
        return
    peer = OLS(after - before, np.ones(len(before))).fit(cov_type="HC0", use_t=False)
    expected = np.clip(peer.conf_int()[0], -1, 1)
    assert mcnemar_interval(before, after) == pytest.approx(expected)


@quick
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_mcnemars_interval_is_centred_on_the_paired_gain_and_turns_with_the_sign(pairs):
    before, after = np.array(pairs, dtype=float).T
    gain, (low, high) = (
        paired_gain(before, after, range(len(before))),
        mcnemar_interval(before, after),
    )
    assert gain.mcnemar_interval == (low, high)
    assert low <= gain.gain <= high
    if low > -1 and high < 1:
        assert (low + high) / 2 == pytest.approx(gain.gain)
    assert mcnemar_interval(after, before) == pytest.approx((-high, -low))
    if gain.se > 0 and gain.interval.low > -1 and gain.interval.high < 1:
        assert gain.interval.low < low  # Student's t, and clusters - 1
        assert high < gain.interval.high


def test_passages_widen_the_clustered_interval_and_not_mcnemars():
    rng = np.random.default_rng(5)
    won = rng.random(30) < 0.3
    before, after = np.zeros(120), won.repeat(4).astype(float)
    gain = paired_gain(before, after, np.arange(30).repeat(4))
    width = gain.mcnemar_interval.high - gain.mcnemar_interval.low
    assert gain.interval.high - gain.interval.low == pytest.approx(2 * width, rel=0.08)
