"""Student's and Welch's tests equal scipy's and statsmodels'."""

import pytest
from labelled_gains import GAIN, RELATED
from scipy import stats

from isogloss.errors import ComparisonError
from isogloss.stats.t_tests import mean_test, tost, welch_test


def test_welch_equals_scipy():
    peer = stats.ttest_ind(GAIN[RELATED], GAIN[~RELATED], equal_var=False)
    ours = welch_test(GAIN[RELATED], GAIN[~RELATED])
    assert (ours.t, ours.df, ours.p) == pytest.approx((peer.statistic, peer.df, peer.pvalue))
    assert ours.interval == pytest.approx(tuple(peer.confidence_interval(0.95)))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("margin", [0.01, 0.03, 0.1])
def test_two_one_sided_tests_equal_statsmodels(margin, sign):
    from statsmodels.stats.weightstats import ttost_ind

    related, control = sign * GAIN[RELATED], sign * GAIN[~RELATED]
    peer = ttost_ind(related, control, -margin, margin, usevar="unequal")[0]
    assert tost(related, control, margin) == pytest.approx(peer)


def test_the_mean_test_equals_scipy():
    peer = stats.ttest_1samp(GAIN, 0)
    ours = mean_test(GAIN)
    assert (ours.estimate, ours.p) == pytest.approx((GAIN.mean(), peer.pvalue))
    for level, interval in ((0.95, ours.interval_95), (0.9, ours.interval_90)):
        assert interval == pytest.approx(tuple(peer.confidence_interval(level)))
    assert (mean_test([0.0, 0.0]).p, mean_test([0.1, 0.1]).p) == (1, 0)
    with pytest.raises(ComparisonError, match="at least 2 values"):
        mean_test([0.1])
