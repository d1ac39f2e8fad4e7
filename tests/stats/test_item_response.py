"""Abilities from an item response model with known guessing and shared items."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from isogloss.stats.item_response import PRIOR_SPREAD, fit_abilities

GUESSING = 0.25


def probability(ability, difficulty):
    return GUESSING + (1 - GUESSING) / (1 + np.exp(difficulty - ability))


def answers(ability_R, items, *, spread=1.0, seed=0):
    """Random answers, [R, I]."""
    rng = np.random.default_rng(seed)
    difficulty_I = rng.normal(0, spread, items)
    return (
        rng.random((len(ability_R), items)) < probability(ability_R[:, None], difficulty_I)
    ).astype(float)


def test_abilities_agree_with_direct_optimisation_of_the_integrated_likelihood():
    correct_RI = np.array(
        [[1, 1, 0, 1, 0, 1], [1, 0, 0, 1, 0, 0], [1, 1, 1, 1, 0, 1], [0, 1, 0, np.nan, 1, 1.0]]
    )

    grid = np.linspace(-15, 15, 3001)

    def loss(parameters):
        ability_R, spread = parameters[:-1], np.exp(parameters[-1])
        total = -stats.norm.logpdf(ability_R, 0, PRIOR_SPREAD).sum()
        for answered_R in correct_RI.T:
            joint = stats.norm.pdf(grid, 0, spread)
            for ability, answer in zip(ability_R, answered_R, strict=True):
                if not np.isnan(answer):
                    right = probability(ability, grid)
                    joint = joint * (right if answer else 1 - right)
            total -= np.log(np.trapezoid(joint, grid))
        return total

    bounds = [(-9, 9)] * 4 + [(np.log(0.05), np.log(3.0))]
    expected = optimize.minimize(loss, np.zeros(5), method="L-BFGS-B", bounds=bounds, tol=1e-9)
    fit = fit_abilities(correct_RI, GUESSING)
    assert fit.ability == pytest.approx(expected.x[:-1], abs=0.01)
    assert fit.difficulty_spread == pytest.approx(np.exp(expected.x[-1]), abs=0.02)


def test_abilities_and_the_spread_of_difficulties_are_recovered():
    ability_R = np.concatenate([np.linspace(-1.5, 1.5, 20), np.linspace(-0.5, 2.5, 20)])
    fit = fit_abilities(answers(ability_R, 900, spread=1.3), GUESSING)
    assert np.corrcoef(fit.ability, ability_R)[0, 1] > 0.99
    assert np.polyfit(ability_R, fit.ability, 1)[0] == pytest.approx(1, abs=0.04)
    gain, true = fit.ability[20:] - fit.ability[:20], ability_R[20:] - ability_R[:20]
    assert gain.mean() == pytest.approx(true.mean(), abs=0.05)
    assert fit.difficulty_spread == pytest.approx(1.3, abs=0.1)


def test_items_that_only_some_answered_still_share_the_scale():
    # The first forty answered the easy half of the items, so accuracy alone overrates them.
    ability_R = np.repeat([0.0, 0.0, 1.0], 40)
    rng = np.random.default_rng(1)
    difficulty_I = np.sort(rng.normal(0, 1.5, 400))
    chance_RI = probability(ability_R[:, None], difficulty_I)
    correct_RI = (rng.random(chance_RI.shape) < chance_RI).astype(float)
    correct_RI[:40, 200:] = np.nan
    fit = fit_abilities(correct_RI, GUESSING)
    means = fit.ability.reshape(3, 40).mean(axis=1)
    accuracy = np.nanmean(correct_RI, axis=1).reshape(3, 40).mean(axis=1)
    assert accuracy[0] > accuracy[2]
    assert means[0] == pytest.approx(means[1], abs=0.1)
    assert means[2] - means[1] == pytest.approx(1, abs=0.1)


def test_abilities_are_finite_at_floor_and_ceiling():
    correct_RI = np.zeros((5, 40))
    correct_RI[0, :4] = 1  # far below guessing
    correct_RI[1, ::4] = 1
    correct_RI[2:4] = 1
    fit = fit_abilities(correct_RI, GUESSING)
    assert np.isfinite(fit.ability).all()
    assert np.abs(fit.ability).max() < 4 * PRIOR_SPREAD
    assert fit.ability[2] == pytest.approx(fit.ability[3])
    assert fit.ability[4] <= fit.ability[0] <= fit.ability[1] < fit.ability[2]
    assert np.isfinite(fit_abilities(np.ones((3, 7)), 0.0).ability).all()


def test_the_influence_of_answers_is_what_they_add_to_an_ability():
    ability_R = np.linspace(-1, 1, 12)
    correct_RI = answers(ability_R, 300)
    fit = fit_abilities(correct_RI, GUESSING)
    some = np.arange(300) < 60
    changed = correct_RI.copy()
    changed[3, some] = np.nan
    # Without its answers to some items, an ability changes by what these added (first order).
    without = fit_abilities(changed, GUESSING).ability[3]
    kept = 1 - some.mean()
    assert (fit.ability[3] - without) * kept == pytest.approx(
        fit.influence[3, some].sum(), abs=0.04
    )
    # Answers and prior pull equally.
    pull_R = fit.influence.sum(axis=1) / fit.ability
    assert (pull_R > 0).all()
    assert pull_R.max() < 0.05


def test_without_guessing_and_equal_items_ability_is_the_log_odds():
    correct_RI = answers(np.array([-1.0, 0.0, 0.5, 1.5]), 2000, spread=0.0, seed=2)
    fit = fit_abilities(correct_RI, GUESSING)
    known = (correct_RI.mean(axis=1) - GUESSING) / (1 - GUESSING)
    assert fit.difficulty_spread < 0.3
    assert fit.ability == pytest.approx(special.logit(known), abs=0.05)
