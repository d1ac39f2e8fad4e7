"""The permutation test of group labels: against scipy, and its interval against its p."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from labelled_gains import GAIN, RELATED, labelled_gains, quick
from scipy import stats

from isogloss.stats.permutation import permutation_test


@pytest.mark.parametrize("seed", range(4))
def test_the_exact_p_equals_scipy(seed):
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


def test_ties_count_as_in_scipy():
    peer = stats.permutation_test(
        (GAIN[RELATED], GAIN[~RELATED]),
        lambda x, y: x.mean() - y.mean(),
        n_resamples=np.inf,
    )
    assert permutation_test(GAIN, RELATED).p == pytest.approx(peer.pvalue, abs=1e-12)


@quick
@given(labelled_gains(), st.sampled_from([0.05, 0.10]))
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
@given(labelled_gains())
def test_the_interval_excludes_zero_exactly_when_p_is_at_most_five_percent(data):
    test = permutation_test(*data)
    assert test.interval_95.excludes(0.0) == (test.p <= 0.05)
    assert test.interval_90.excludes(0.0) == (test.p <= 0.10)


def test_random_relabellings_are_seeded_and_agree_with_the_exact_test():
    exact = permutation_test(GAIN, RELATED)
    drawn = permutation_test(GAIN, RELATED, seed=3, relabellings=400)
    assert not drawn.exact
    assert drawn.relabellings == 401
    assert drawn == permutation_test(GAIN, RELATED, seed=3, relabellings=400)
    assert drawn.p == pytest.approx(exact.p, abs=0.06)
    assert drawn.interval_90 == pytest.approx(exact.interval_90, abs=0.02)
    far = permutation_test(GAIN + RELATED, RELATED, seed=3, relabellings=400)
    assert far.p >= 2 / 401
