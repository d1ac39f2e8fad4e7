"""Power and equivalence of a design: against simulation and statsmodels."""

import math

import numpy as np
import pytest
from labelled_gains import GAIN, RELATED

from isogloss.stats.contrasts import relatedness_contrast
from isogloss.stats.permutation import attained_level, permutation_test
from isogloss.stats.power import (
    Spread,
    design_power,
    equivalence,
    item_spread,
    languages_for_equivalence,
    limiting_effect,
    minimum_detectable_effect,
    pilot_spread,
    power,
    spread_for_equivalence,
    spread_interval,
)


def draws(n_related: int, n_control: int, effect: float, n: int, spread: float):
    """Normal gains of that many studies, and which languages are related."""
    related = np.arange(n_related + n_control) < n_related
    rng = np.random.default_rng(n_related + 100 * n_control)
    return spread * rng.normal(size=(n, len(related))) + effect * related, related


@pytest.mark.parametrize(
    ("n_related", "n_control", "effect", "off"),
    [(4, 8, 1.7, 0.03), (4, 8, 0.0, 0.02), (6, 6, 1.0, 0.03), (3, 5, 2.0, 0.09), (4, 4, 2.0, 0.09)],
)
def test_power_is_the_rejection_rate_of_the_permutation_test(n_related, n_control, effect, off):
    gain_SL, related = draws(n_related, n_control, effect, 2500, 1.0)
    found = np.mean([permutation_test(gain_L, related).p <= 0.05 for gain_L in gain_SL])
    assert power(effect, 1.0, n_related, n_control) == pytest.approx(found, abs=off)


def test_few_relabellings_have_less_power_than_students_t():
    from statsmodels.stats.power import TTestIndPower

    assert attained_level(4, 4, 0.05) == 2 / 70
    assert attained_level(4, 12, 0.05) == pytest.approx(0.05, abs=0.001)
    assert power(2.0, 1.0, 4, 4) < TTestIndPower().power(2.0, 4, 0.05) - 0.1


@pytest.mark.parametrize(("n_related", "n_control"), [(2, 8), (4, 12), (4, 100), (30, 40)])
@pytest.mark.parametrize("effect", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_power_equals_statsmodels_at_the_level_attained(n_related, n_control, effect):
    from statsmodels.stats.power import TTestIndPower

    level = attained_level(n_related, n_control, 0.05)
    peer = TTestIndPower().power(effect, n_related, level, ratio=n_control / n_related)
    assert power(effect, 1.0, n_related, n_control) == pytest.approx(peer, abs=2e-5)


def test_the_minimum_detectable_effect_equals_that_of_the_noncentral_t():
    from statsmodels.stats.power import TTestIndPower

    effect = minimum_detectable_effect(0.05, 8, 16)
    peer = TTestIndPower().solve_power(
        nobs1=8, ratio=2, alpha=attained_level(8, 16, 0.05), power=0.8, alternative="two-sided"
    )
    assert effect == pytest.approx(0.05 * peer, rel=1e-3)
    contrast = relatedness_contrast(GAIN, RELATED, 0.03)
    spread = math.sqrt((3 * GAIN[RELATED].var(ddof=1) + 7 * GAIN[~RELATED].var(ddof=1)) / 10)
    assert contrast.spread == pytest.approx(spread)
    assert contrast.minimum_detectable_effect == minimum_detectable_effect(contrast.spread, 4, 8)


def test_the_minimum_detectable_effect_is_detected_with_80_percent_power():
    rng = np.random.default_rng(0)
    effect = minimum_detectable_effect(1.0, 4, 8)
    found = [
        permutation_test(rng.normal(size=12) + effect * RELATED, RELATED).p <= 0.05
        for _ in range(600)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_the_minimum_detectable_effect_is_infinite_with_too_few_relabellings():
    assert minimum_detectable_effect(0.05, 2, 3) == math.inf


def test_power_rises_to_one():
    chances = [power(effect, 0.05, 4, 12) for effect in np.linspace(0, 2, 400)]
    assert np.isfinite(chances).all()
    assert (np.diff(chances) >= -1e-12).all()
    assert chances[-1] == pytest.approx(1)


def test_with_too_few_relabellings_power_and_equivalence_are_zero():
    hopeless = design_power(0.01, 2, 3, effect=0.5, margin=0.3)
    assert (hopeless.power, hopeless.equivalence) == (0, 0)
    assert hopeless.minimum_detectable_effect == hopeless.significant == math.inf
    assert spread_for_equivalence(2, 3, 0.3) == 0


@pytest.mark.parametrize(("n_related", "n_control"), [(4, 4), (4, 8), (4, 20), (12, 12), (20, 100)])
def test_the_power_at_the_minimum_detectable_effect_is_80_percent(n_related, n_control):
    row = design_power(0.05, n_related, n_control, effect=0.1, margin=0.03)
    found = power(row.minimum_detectable_effect, 0.05, n_related, n_control)
    assert found == pytest.approx(0.8, abs=1e-4)
    assert limiting_effect(0.05, n_related) < row.minimum_detectable_effect


def test_the_limiting_effect_is_that_of_a_million_controls():
    assert power(limiting_effect(0.05, 4), 0.05, 4, 10**6) == pytest.approx(0.8, abs=1e-4)


def test_p_crosses_5_percent_at_the_significant_contrast():
    gain, related = draws(4, 12, 0.0, 1, 1.0)
    gain = gain[0] - np.where(related, gain[0][related].mean(), gain[0][~related].mean())
    spread = relatedness_contrast(gain, related, None).spread
    edge = design_power(spread, 4, 12, effect=1.0, margin=1.0).significant
    assert permutation_test(gain + 1.1 * edge * related, related).p < 0.05
    assert permutation_test(gain + 0.9 * edge * related, related).p > 0.05


@pytest.mark.parametrize(
    ("n_related", "n_control", "margin", "off"),
    [(4, 8, 1.7, 0.03), (8, 4, 1.4, 0.03), (4, 4, 2.0, 0.06), (2, 6, 3.0, 0.12)],
)
def test_equivalence_is_the_rate_of_that_verdict_at_a_true_zero(n_related, n_control, margin, off):
    gain_SL, related = draws(n_related, n_control, 0.0, 1500, 1.0)
    verdicts = [
        permutation_test(gain_L, related).interval_90.inside(margin) for gain_L in gain_SL
    ]  # relatedness_contrast's first verdict
    assert equivalence(1.0, n_related, n_control, margin) == pytest.approx(
        np.mean(verdicts), abs=off
    )


def test_the_numbers_needed_for_equivalence_are_just_sufficient():
    n = languages_for_equivalence(0.05, 0.03)
    assert equivalence(0.05, n, n, 0.03) >= 0.8 > equivalence(0.05, n - 1, n - 1, 0.03)
    assert languages_for_equivalence(0.3, 0.001) > 10_000  # found by bisection, so fast
    spread = spread_for_equivalence(4, 12, 0.03)
    assert equivalence(spread, 4, 12, 0.03) == pytest.approx(0.8)


def change(u, gain, discordant):
    """Changes of items, -1, 0 or 1, from uniform draws."""
    return (u > 1 - (discordant + gain) / 2).astype(float) - (u < (discordant - gain) / 2)


def test_the_spread_equals_that_of_simulated_languages_with_clustered_items():
    n_languages, n_passages, n_seeds = 8000, 60, 3
    gain, discordant, correlation = 0.1, 0.5, 0.4
    rng = np.random.default_rng(0)
    u = rng.random((n_languages, n_passages, 2))
    alike = rng.random((n_languages, n_passages)) < correlation
    u[alike, 1] = u[alike, 0]
    true_L = gain + 0.06 * rng.normal(size=n_languages)
    true_SL = true_L + 0.05 * rng.normal(size=(n_seeds, n_languages))
    measured_L = np.mean(
        [change(u, true_L[:, None, None], discordant).mean(axis=(1, 2)) for true_L in true_SL],
        axis=0,
    )
    spread = Spread(0.06, 0.05, item_spread(gain, discordant, 2, correlation))
    assert spread.measured(2 * n_passages, n_seeds) == pytest.approx(measured_L.std(), rel=0.04)


def test_the_spread_is_an_upper_bound_where_languages_share_items():
    rng = np.random.default_rng(1)
    shared, own = rng.random(400), rng.random((300, 400))
    u = np.where(rng.random((300, 400)) < 0.5, shared, own)
    spread = Spread(0, 0, item_spread(0.1, 0.5, 1, 0)).measured(400, 1)
    assert change(u, 0.1, 0.5).mean(axis=1).std() < 0.9 * spread


@pytest.mark.parametrize(("measured", "item_error"), [(0.05, 0.02), (0.02, 0.03), (0.05, 0.0)])
def test_the_components_of_a_pilot_add_up_to_its_spread(measured, item_error):
    parts = pilot_spread(measured, item_error, 100, 2, seed_spread=0.01)
    assert parts.measured(100, 2) == pytest.approx(measured)
    assert parts.languages <= measured
    assert parts.measured(400, 2) <= measured <= parts.measured(100, 1)


def test_the_interval_of_a_spread_has_95_percent_coverage():
    rng = np.random.default_rng(2)
    intervals = [spread_interval(rng.normal(size=15).std(ddof=1), 14) for _ in range(2000)]
    assert np.mean([low < 1 < high for low, high in intervals]) == pytest.approx(0.95, abs=0.015)
