"""The mean over languages with languages and passages as samples."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.sandwich_covariance import cov_cluster, cov_cluster_2groups

from isogloss.errors import ComparisonError
from isogloss.stats.two_way import two_way_mean


def draw(rng, language=0.1, passage=0.1, noise=0.3, mean=0.0, shape=(30, 12), items=2):
    """Values of items, [I, L], two per passage, with effects of languages and of passages."""
    n_passages, n_languages = shape
    passage_I = rng.normal(0, passage, n_passages).repeat(items)
    value_IL = mean + passage_I[:, None] + rng.normal(0, language, n_languages)
    return value_IL + rng.normal(0, noise, value_IL.shape)


def by_passage(value_IL, items=2):
    n_items, n_languages = value_IL.shape
    sums_PL = value_IL.reshape(n_items // items, items, n_languages).sum(axis=1)
    return sums_PL / n_items, np.full_like(sums_PL, items / n_items)


def test_the_variance_is_that_of_two_way_clustering():
    value_IL = draw(np.random.default_rng(0), passage=0.3)
    n_items, n_languages = value_IL.shape
    fit = OLS(value_IL.ravel(), np.ones(value_IL.size)).fit()
    language = np.tile(np.arange(n_languages), n_items)
    passage = np.repeat(np.arange(n_items // 2), 2 * n_languages)
    parts = [
        cov_cluster(fit, groups, use_correction=False).item()
        for groups in (language, passage, language + n_languages * passage)
    ]
    both = cov_cluster_2groups(fit, language, passage, use_correction=False)[0].item()
    assert both == pytest.approx(parts[0] + parts[1] - parts[2])
    ours = two_way_mean(*by_passage(value_IL))
    n_passages = n_items // 2
    corrected = parts[0] * n_languages / (n_languages - 1)
    # Ours takes the noise within cells around the mean of the language, not around that of all.
    value_L = value_IL.mean(axis=0)
    residual_PL = (value_IL - value_L).reshape(n_passages, 2, n_languages).sum(axis=1)
    corrected += (
        ((residual_PL.sum(axis=1) ** 2).sum() - (residual_PL**2).sum())
        / value_IL.size**2
        * n_passages
        / (n_passages - 1)
    )
    assert ours.estimate == pytest.approx(value_IL.mean())
    assert ours.se**2 == pytest.approx(corrected)
    assert ours.se**2 == pytest.approx(both, rel=0.12)


def test_without_noise_of_passages_it_is_students_t():
    rng = np.random.default_rng(1)
    value_L = rng.normal(0.1, 0.1, 9)
    weight_PL = np.full((10, 9), 0.1)
    ours = two_way_mean(weight_PL * value_L, weight_PL)
    theirs = stats.ttest_1samp(value_L, 0)
    assert (ours.p, ours.df) == pytest.approx((theirs.pvalue, 8))
    assert ours.interval_95 == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.interval_90 == pytest.approx(tuple(theirs.confidence_interval(0.90)))
    above = stats.ttest_1samp(value_L, -0.15, alternative="greater").pvalue
    below = stats.ttest_1samp(value_L, 0.15, alternative="less").pvalue
    assert ours.p_within(0.15) == pytest.approx(max(above, below))
    more = stats.ttest_1samp(value_L, 0.02, alternative="greater").pvalue
    assert ours.p_beyond(0.02) == pytest.approx(more)


@pytest.mark.parametrize(("language", "passage"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.4), (0.1, 0.2)])
def test_the_interval_covers_for_other_languages_and_passages(language, passage):
    rng = np.random.default_rng(2)
    covered = [
        not two_way_mean(*by_passage(draw(rng, language, passage))).interval_95.excludes(0.0)
        for _ in range(400)
    ]
    assert 0.92 < np.mean(covered) <= 1


@pytest.mark.parametrize("tests", [1, 4, 7])
def test_an_adjusted_interval_is_that_of_bonferroni(tests):
    rng = np.random.default_rng(3)
    weight_PL = np.full((10, 9), 0.1)
    value_L = rng.normal(0.1, 0.1, 9)
    theirs = stats.ttest_1samp(value_L, 0).confidence_interval(1 - 0.05 / tests)
    ours = two_way_mean(weight_PL * value_L, weight_PL)
    assert ours.adjusted_interval(tests) == pytest.approx(tuple(theirs))
    at_its_edge = two_way_mean(weight_PL * (value_L - theirs.low), weight_PL)
    assert tests * at_its_edge.p == pytest.approx(0.05)


def test_values_that_do_not_vary_have_no_error():
    weight_PL = np.full((4, 3), 0.25)
    zero, tenth = two_way_mean(0 * weight_PL, weight_PL), two_way_mean(0.1 * weight_PL, weight_PL)
    assert (zero.p, zero.p_within(0.03), tenth.p, tenth.p_within(0.03)) == (1, 0, 0, 1)
    with pytest.raises(ComparisonError, match="at least 2 of them, but got 1"):
        two_way_mean(weight_PL[:, :1], weight_PL[:, :1])
