"""Correlation within families: what it does to a contrast, and how it is estimated."""

import numpy as np
import pytest

from isogloss.stats.family_correlation import (
    breaking_correlation,
    intraclass_correlation,
    variance_ratio,
)

RELATED = np.array([True] * 4 + [False] * 12)
FAMILIES = [*"rrrr", *"aaaabbbccdef"]


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
def test_the_ratio_is_that_of_simulated_contrasts(correlation):
    rng = np.random.default_rng(0)
    names = sorted(set(FAMILIES))
    family = np.array([names.index(name) for name in FAMILIES])
    shared = rng.normal(size=(20_000, len(names)))[:, family]
    gains = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.normal(size=shared.shape)
    contrasts = gains[:, RELATED].mean(axis=1) - gains[:, ~RELATED].mean(axis=1)
    spread = (
        3 * gains[:, RELATED].var(axis=1, ddof=1) + 11 * gains[:, ~RELATED].var(1, ddof=1)
    ) / 14
    claimed = spread.mean() * (1 / 4 + 1 / 12)
    ratio = variance_ratio(RELATED, FAMILIES, correlation)
    assert ratio == pytest.approx(contrasts.var() / claimed, rel=0.03)


def test_the_verdict_falls_where_the_ratio_is_reached():
    correlation = breaking_correlation(RELATED, FAMILIES, 1.7)
    assert variance_ratio(RELATED, FAMILIES, correlation) == pytest.approx(1.7)
    assert breaking_correlation(RELATED, FAMILIES, 0.9) == 0
    # One language a family: correlation within families changes nothing.
    alone = [str(place) for place in range(16)]
    assert variance_ratio(RELATED, alone, 0.5) == pytest.approx(1)
    assert breaking_correlation(RELATED, alone, 1.1) is None


def test_one_control_a_family_survives_more_correlation():
    apart = [*"rrrr", *map(str, range(12))]
    assert breaking_correlation(RELATED, apart, 1.7) > breaking_correlation(RELATED, FAMILIES, 1.7)


def test_the_intraclass_correlation_is_that_of_analysis_of_variance():
    rng = np.random.default_rng(1)
    value = rng.normal(size=(6, 5)) + rng.normal(size=(6, 1))
    families = [str(row) for row in range(6) for _ in range(5)]
    between = 5 * value.mean(axis=1).var(ddof=1)
    within = value.var(axis=1, ddof=1).mean()
    expected = (between - within) / (between + 4 * within)
    assert intraclass_correlation(value.ravel(), families) == pytest.approx(expected)
    large = np.sqrt(0.4) * rng.normal(size=3_000).repeat(3) + np.sqrt(0.6) * rng.normal(size=9_000)
    names = [str(row) for row in range(3_000) for _ in range(3)]
    assert intraclass_correlation(large, names) == pytest.approx(0.4, abs=0.03)
    for few in (["a", "a", "a"], ["a", "b", "c"]):
        assert np.isnan(intraclass_correlation(np.array([0.1, 0.2, 0.4]), few))
