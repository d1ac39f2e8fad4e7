"""The adjusted contrast: against a plain loop over statsmodels' least squares; noise removed."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from isogloss.errors import ComparisonError
from isogloss.stats.adjusted import freedman_lane, shared_noise, without_shared_noise
from isogloss.stats.contrasts import relatedness_contrast
from isogloss.stats.permutation import unit_orders

RELATED = np.arange(16) < 5


def simulated(seed, effect=0.0):
    """A covariate and gains that depend on it and on relatedness."""
    rng = np.random.default_rng(seed)
    covariate = rng.normal(size=16)
    return covariate, 0.5 * covariate + effect * RELATED + rng.normal(0, 0.3, 16)


def test_it_equals_a_plain_loop_over_least_squares():
    from statsmodels.api import OLS

    covariate, gain = simulated(0, 0.3)
    contrast = freedman_lane(gain, RELATED, {"x": covariate}, seed=4, draws=300)
    reduced = np.column_stack([np.ones(16), covariate])
    full = np.column_stack([reduced, RELATED])
    fit = OLS(gain, reduced).fit()
    orders, _ = unit_orders(16, 300, 4)
    t = [abs(OLS(fit.fittedvalues + fit.resid[order], full).fit().tvalues[-1]) for order in orders]
    peer = OLS(gain, full).fit()
    assert t[0] == pytest.approx(abs(peer.tvalues[-1]))
    assert contrast.p == pytest.approx(np.mean(np.array(t) >= t[0] * (1 - 1e-9)))
    assert contrast.estimate == pytest.approx(peer.params[-1])
    assert contrast.slopes == pytest.approx({"x": peer.params[1]})
    assert contrast.permutations == 301


def test_without_covariates_it_is_the_permutation_test():
    _, gain = simulated(1, 0.4)
    contrast = freedman_lane(gain, RELATED, {})
    exact = relatedness_contrast(gain, RELATED, None)
    assert contrast.estimate == pytest.approx(exact.estimate)
    assert contrast.p == pytest.approx(exact.permutation.p, abs=0.02)
    assert contrast.interval == pytest.approx(exact.permutation.interval_95, abs=0.05)


def test_the_interval_contains_the_shifts_that_are_not_rejected():
    covariate, gain = simulated(2, 0.2)
    low, high = freedman_lane(gain, RELATED, {"x": covariate}, draws=999).interval
    for shift, inside in (
        (low - 0.01, False), (low + 0.01, True), (high - 0.01, True), (high + 0.01, False),
    ):  # fmt: skip
        p = freedman_lane(gain - shift * RELATED, RELATED, {"x": covariate}, draws=999).p
        assert (p > 0.05) == inside


def test_a_difference_that_a_covariate_explains_is_removed():
    rng = np.random.default_rng(3)
    covariate = RELATED + rng.normal(0, 0.3, 16)
    gain = 0.4 * covariate + rng.normal(0, 0.02, 16)
    assert relatedness_contrast(gain, RELATED, None).permutation.p < 0.05
    contrast = freedman_lane(gain, RELATED, {"x": covariate}, draws=999)
    assert abs(contrast.estimate) < 0.1
    assert contrast.p > 0.05


@pytest.mark.parametrize("slope", [0.0, -0.4])
def test_noise_that_a_gain_shares_with_its_baseline_is_removed(slope):
    # Relatives' true baselines are lower by one; the true gain depends on the true baseline alone.
    rng = np.random.default_rng(4)
    related = np.arange(4000) < 1000
    truth = rng.normal(size=4000) - related
    noise = rng.normal(0, 0.7, 4000)
    gain = 0.3 + slope * truth - noise + rng.normal(0, 0.5, 4000)
    baseline = truth + noise
    naive = freedman_lane(gain, related, {"b": baseline}, draws=9, with_interval=False)
    assert naive.slopes["b"] < slope - 0.15
    y, x = without_shared_noise(gain, baseline, related[:, None].astype(float), 0.49, -0.49)
    corrected = freedman_lane(y, related, {"b": x}, draws=9, with_interval=False)
    assert corrected.estimate == pytest.approx(0, abs=0.06)
    assert corrected.slopes["b"] == pytest.approx(slope, abs=0.04)


def test_a_perfect_fit_has_a_point_as_its_interval():
    values = np.log(np.arange(2.0, 14.0))
    fit = freedman_lane(np.full(12, 0.1), np.arange(12) < 4, {"x": values})
    assert fit.interval == pytest.approx((0, 0), abs=1e-12)
    assert fit.p == 1


def test_a_square_of_the_corrected_baseline_removes_a_curved_confounder():
    rng = np.random.default_rng(7)
    related = np.arange(30) < 6
    estimates = {"straight": [], "curved": [], "curved, not corrected": []}
    for _ in range(300):
        ability = np.clip(np.where(related, 0.3, 0.5) + rng.normal(0, 0.13, 30), 0.08, 0.92)
        after = ability + 0.8 * (ability - 0.1) * (0.9 - ability) + rng.normal(0, 0.03, 30)
        base, tuned = (rng.random((100, 30)) < np.clip(p, 0.02, 0.98) for p in (ability, after))
        share = base / 100, (tuned * 1.0 - base) / 100
        noise = shared_noise(*share, np.full((100, 30), 0.01))
        raw, gain = (values.sum(axis=0) for values in share)
        y, x = without_shared_noise(gain, raw, related[:, None] * 1.0, *noise)
        for name, outcome, design in (
            ("straight", y, {"x": x}),
            ("curved", y, {"x": x, "square": (x - x.mean()) ** 2}),
            ("curved, not corrected", gain, {"x": raw, "square": (raw - raw.mean()) ** 2}),
        ):
            fit = freedman_lane(outcome, related, design, draws=1, with_interval=False)
            estimates[name].append(fit.estimate)
    bias = {name: np.mean(values) for name, values in estimates.items()}
    assert abs(bias["curved"]) < 0.01
    assert bias["straight"] < -0.012
    assert bias["curved, not corrected"] < -0.018


def test_shared_noise_is_the_sampling_variance_that_languages_do_not_share():
    """Scores are truth + noise of an item in all languages + noise of an item in one language."""
    n_passages, n_languages, per_passage = 80, 6, 2
    n_items = n_passages * per_passage
    rng = np.random.default_rng(5)
    weight = np.full((n_passages, n_languages), 1 / n_passages)
    variances, covariances = [], []
    for _ in range(400):
        item = rng.normal(0, 0.9, (n_items, 1))
        own_before, own_after = rng.normal(0, 0.5, (2, n_items, n_languages))
        before = 0.4 + item + own_before
        gain = own_after - own_before  # the item's own difficulty cancels
        shares = [
            scores.reshape(n_passages, per_passage, n_languages).sum(axis=1) / n_items
            for scores in (before, gain)
        ]
        variance, covariance = shared_noise(*shares, weight)
        variances.append(variance)
        covariances.append(covariance)
    assert np.mean(variances) == pytest.approx(0.5**2 / n_items, rel=0.02)
    assert np.mean(covariances) == pytest.approx(-(0.5**2) / n_items, rel=0.02)


def test_shared_noise_counts_whole_passages():
    """Four passages, whose finite number matters; passages are correlated inside."""
    rng = np.random.default_rng(6)
    weight = np.full((4, 5), 1 / 4)
    estimates = [shared_noise(p / 4, -p / 4, weight) for p in rng.normal(size=(3000, 4, 5))]
    assert np.mean(estimates, axis=0) == pytest.approx([1 / 4, -1 / 4], rel=0.05)


def test_adjustments_that_are_not_possible_raise():
    covariate, gain = simulated(5)
    with pytest.raises(ComparisonError, match="by barely more than sampling noise"):
        without_shared_noise(gain, covariate, RELATED[:, None].astype(float), 2.0, -2.0)
    with pytest.raises(ComparisonError, match="by barely more than sampling noise"):
        without_shared_noise(gain, np.full(16, 0.3), RELATED[:, None].astype(float), 0.0, 0.0)
    with pytest.raises(ComparisonError, match="adjusting for x, y is not possible"):
        freedman_lane(gain, RELATED, {"x": covariate, "y": 2 * covariate})
    with pytest.raises(ComparisonError, match="separate the groups completely"):
        freedman_lane(gain, RELATED, {"x": RELATED * 2.0})
    with pytest.raises(ComparisonError, match="leaves 2 degrees of freedom among 5 languages"):
        freedman_lane(gain[:5], RELATED[2:7], {"x": covariate[:5]})


@given(exponent=st.floats(-15, 15), shift=st.floats(-100, 100))
@example(exponent=15, shift=0)
@example(exponent=-15, shift=0)
@example(exponent=300, shift=0)
@example(exponent=-300, shift=0)
@settings(max_examples=20, deadline=None)
def test_the_unit_of_a_covariate_does_not_matter(exponent, shift):
    covariate, gain = simulated(5, 0.3)
    other = np.random.default_rng(6).normal(size=16)
    expected = freedman_lane(gain, RELATED, {"x": covariate, "o": other}, draws=199)
    unit = 10.0**exponent
    scaled = {"x": unit * (covariate + shift), "o": other}
    contrast = freedman_lane(gain, RELATED, scaled, draws=199)
    assert contrast.estimate == pytest.approx(expected.estimate)
    assert contrast.p == expected.p
    assert contrast.interval == pytest.approx(expected.interval, rel=1e-3)
    assert contrast.slopes["x"] * unit == pytest.approx(expected.slopes["x"])


@pytest.mark.parametrize("unit", [1e-300, 1e-15, 1e15, 1e300])
def test_the_unit_of_a_covariate_does_not_matter_to_the_correction_of_noise(unit):
    covariate, gain = simulated(7)
    baseline = np.random.default_rng(8).normal(size=16)
    corrected, scaled = (
        without_shared_noise(
            gain, baseline, np.column_stack([RELATED, factor * covariate]), 0.1, -0.1
        )
        for factor in (1.0, unit)
    )
    np.testing.assert_allclose(scaled, corrected)


@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e15])
def test_constant_and_redundant_covariates_are_refused_in_any_unit(unit):
    covariate, gain = simulated(9)
    rounded = np.where(RELATED, 0.1 + 0.2, 0.3)  # equal but for rounding
    for own in ({"x": unit * rounded}, {"x": covariate, "y": unit * (covariate - 2)}):
        with pytest.raises(ComparisonError, match="constant, redundant"):
            freedman_lane(gain, RELATED, own)
