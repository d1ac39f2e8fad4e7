"""Power of a crossed design: against a permutation of matchings in numpy; a pilot's variances."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from isogloss.errors import ComparisonError, ConfigError
from isogloss.stats.crossed import crossed_effect
from isogloss.stats.crossed_power import (
    CrossedSpread,
    answer_spread,
    crossed_power,
    effect_error,
    matching_level,
    pilot_crossed_spread,
)

SPREAD = CrossedSpread(branches=0.01, languages=0.03, seeds=0.02, items=0.3)


def rejection_rate(sources: int, relatives: int, effect: float, studies: int = 1500) -> float:
    """How often a permutation of matchings finds the effect in gains with that spread."""
    rng = np.random.default_rng(sources)
    orders = np.array(list(itertools.permutations(range(sources))))
    shape = (studies, sources, sources, relatives)
    gains = (
        SPREAD.branches * rng.normal(size=shape[:3])[..., None]
        + SPREAD.of_target(100, 1) * rng.normal(size=shape)
        + 0.05 * rng.normal(size=(studies, 1, sources, relatives))
        + effect * np.eye(sources)[..., None]
    ).mean(axis=3)
    gains -= gains.mean(axis=1, keepdims=True)
    gains -= gains.mean(axis=2, keepdims=True)
    matched = gains[:, np.arange(sources), orders]
    total, variance = matched.sum(axis=2), sources * matched.var(axis=2, ddof=1)
    least = np.mean(total**2, axis=1, keepdims=True) / 9
    statistic = np.abs(total) / np.sqrt(np.maximum(variance, least))
    p = (statistic >= statistic[:, :1] * (1 - 1e-9)).mean(axis=1)
    return float((p <= 0.05).mean())


@pytest.mark.parametrize(
    ("sources", "relatives", "effect"), [(4, 4, 0.0), (4, 4, 0.04), (5, 3, 0.03), (6, 4, 0.03)]
)
def test_power_is_the_rejection_rate_of_the_test_of_matchings(sources, relatives, effect):
    predicted = crossed_power(
        SPREAD, sources, relatives, items=100, seeds=1, effect=effect, margin=0.03
    )
    assert predicted.power == pytest.approx(rejection_rate(sources, relatives, effect), abs=0.04)


def test_the_error_is_that_of_the_least_squares_effect_also_beside_other_targets():
    sources, relatives = 5, 3
    branch_T = np.append(np.repeat(np.arange(sources), relatives), [5, 6, 7])
    kin = np.arange(sources)[:, None] == branch_T
    centred = kin - kin.mean(axis=0) - kin.mean(axis=1, keepdims=True) + kin.mean()
    weights = centred / (centred**2).sum()
    np.testing.assert_allclose(weights[:, -3:], 0, atol=1e-15)
    by_branch = weights @ (branch_T[:, None] == np.arange(8))
    variance = (weights**2).sum() * SPREAD.of_target(100, 2) ** 2
    variance += (by_branch**2).sum() * SPREAD.branches**2
    error = effect_error(SPREAD, sources, relatives, items=100, seeds=2)
    assert error == pytest.approx(math.sqrt(variance))


def test_levels_are_multiples_of_one_matching():
    assert [matching_level(n, 0.05) for n in (3, 4, 5)] == [0, 1 / 24, 6 / 120]
    three = crossed_power(SPREAD, 3, 4, items=100, seeds=1, effect=0.5, margin=0.03)
    assert (three.power, three.equivalence, three.lowest_p) == (0, 0, 1 / 6)
    assert math.isinf(three.significant)
    assert math.isinf(three.minimum_detectable_effect)


def test_beyond_eight_sources_matchings_are_as_many_as_a_comparison_draws():
    design = {"items": 100, "seeds": 1, "effect": 0.1, "margin": 0.03}
    eight, nine, twelve = (crossed_power(SPREAD, n, 4, **design) for n in (8, 9, 12))
    assert (eight.matchings, nine.matchings, twelve.matchings) == (40_320, 10_000, 10_000)
    assert twelve.lowest_p == 1 / 10_000
    measured = np.random.default_rng(0).normal(size=(9, 18)) + np.repeat(np.eye(9), 2, axis=1)
    kinship = np.repeat(np.eye(9), 2, axis=1)
    assert crossed_effect(measured, kinship, list("abcdefghi"), 0.03).matchings == nine.matchings


def test_the_minimum_detectable_effect_has_80_percent_power():
    design = {"items": 200, "seeds": 3, "margin": 0.03}
    detectable = crossed_power(SPREAD, 6, 4, effect=0.1, **design).minimum_detectable_effect
    again = crossed_power(SPREAD, 6, 4, effect=detectable, **design)
    assert again.power == pytest.approx(0.8, abs=1e-4)


def test_two_sources_and_gains_that_do_not_vary_are_rejected():
    design = {"items": 100, "seeds": 1, "effect": 0.1, "margin": 0.03}
    with pytest.raises(ConfigError, match="at least 3 sources but got 2"):
        crossed_power(SPREAD, 2, 4, **design)
    with pytest.raises(ConfigError, match="must be positive"):
        crossed_power(CrossedSpread(0, 0, 0, 0), 4, 4, **design)


def test_the_answer_spread_is_that_between_two_adapters():
    rng = np.random.default_rng(0)
    chance = np.where(rng.random(2000) < 0.5, 0.1, 0.8)
    answers = rng.random((200, 2000)) < chance
    discordant = (answers[:100] != answers[100:]).mean()
    between = answers.var(axis=0, ddof=1).mean()
    assert answer_spread(discordant, 2, 0) ** 2 == pytest.approx(between, rel=0.02)
    assert answer_spread(0.4, 3, 0.5) == pytest.approx(math.sqrt(0.2 * 2))


def pilot(seed: int, sources: int = 6, relatives: int = 4):
    rng = np.random.default_rng(seed)
    source_branch = np.arange(sources)
    target_branch = np.repeat(source_branch, relatives)
    shape = (sources, len(target_branch))
    gains = (
        0.05 * rng.normal(size=(sources, 1))
        + 0.1 * rng.normal(size=sources)[target_branch]
        + 0.02 * rng.normal(size=(sources, sources))[:, target_branch]
        + 0.03 * rng.normal(size=shape)
        + 0.05 * (source_branch[:, None] == target_branch)
    )
    gains[0, 3] = gains[2, :2] = np.nan
    return gains, source_branch, target_branch


def test_a_pilot_has_the_variances_that_it_was_drawn_with():
    sizes = {"items": 0.1, "seeds": 0.0, "n_items": 100, "n_seeds": 1}
    spreads = [pilot_crossed_spread(*pilot(seed), **sizes) for seed in range(150)]
    assert np.mean([s.branches**2 for s in spreads]) == pytest.approx(0.02**2, rel=0.15)
    within = np.mean([s.of_target(100, 1) ** 2 for s in spreads])
    assert within == pytest.approx(0.03**2, rel=0.05)
    assert np.mean([s.languages**2 for s in spreads]) == pytest.approx(8e-4, rel=0.05)


def test_effects_of_sources_targets_and_kinship_do_not_enter_a_pilots_spread():
    gains, source_branch, target_branch = pilot(1)
    kin = source_branch[:, None] == target_branch
    shifted = gains + np.arange(6)[:, None] + np.arange(24) ** 2 / 50 - 0.4 * kin
    sizes = {"items": 0.1, "seeds": 0.01, "n_items": 100, "n_seeds": 2}
    first, second = (
        pilot_crossed_spread(values, source_branch, target_branch, **sizes)
        for values in (gains, shifted)
    )
    np.testing.assert_allclose(list(vars(first).values()), list(vars(second).values()), rtol=1e-6)


def test_items_that_explain_more_than_was_measured_are_scaled_down():
    sizes = {"items": 10.0, "seeds": 1.0, "n_items": 100, "n_seeds": 1}
    spread = pilot_crossed_spread(*pilot(2), **sizes)
    smaller = pilot_crossed_spread(*pilot(2), **(sizes | {"items": 0.1, "seeds": 0.0}))
    assert spread.languages == 0
    assert spread.of_target(100, 1) == pytest.approx(smaller.of_target(100, 1))
    assert replace(spread, branches=0) == replace(spread, branches=0, languages=0)


def test_too_small_a_pilot_is_refused():
    gains = np.zeros((2, 2))
    with pytest.raises(ComparisonError, match="4 gains of 2 sources on 2 targets are too few"):
        pilot_crossed_spread(
            gains, np.arange(2), np.arange(2), items=0, seeds=0, n_items=1, n_seeds=1
        )
