"""Adjusted contrasts, against a plain loop over statsmodels' least squares."""

import numpy as np
import pytest

from isogloss.errors import ComparisonError
from isogloss.stats.adjusted import freedman_lane, without_shared_noise
from isogloss.stats.contrasts import relatedness_contrast
from isogloss.stats.permutation import unit_orders

RELATED = np.arange(16) < 5


def drawn(seed, effect=0.0):
    rng = np.random.default_rng(seed)
    covariate = rng.normal(size=16)
    return covariate, 0.5 * covariate + effect * RELATED + rng.normal(0, 0.3, 16)


def test_it_is_a_plain_loop_over_least_squares():
    from statsmodels.api import OLS

    covariate, gain = drawn(0, 0.3)
    found = freedman_lane(gain, RELATED, {"x": covariate}, seed=4, draws=300)
    reduced = np.column_stack([np.ones(16), covariate])
    full = np.column_stack([reduced, RELATED])
    fit = OLS(gain, reduced).fit()
    order, _ = unit_orders(16, 300, 4)
    t = [abs(OLS(fit.fittedvalues + fit.resid[each], full).fit().tvalues[-1]) for each in order]
    peer = OLS(gain, full).fit()
    assert t[0] == pytest.approx(abs(peer.tvalues[-1]))
    assert found.p == pytest.approx(np.mean(np.array(t) >= t[0] * (1 - 1e-9)))
    assert found.estimate == pytest.approx(peer.params[-1])
    assert found.slopes == pytest.approx({"x": peer.params[1]})
    assert found.permutations == 301


def test_without_covariates_it_is_the_permutation_test():
    _, gain = drawn(1, 0.4)
    found = freedman_lane(gain, RELATED, {})
    exact = relatedness_contrast(gain, RELATED, None)
    assert found.estimate == pytest.approx(exact.estimate)
    assert found.p == pytest.approx(exact.permutation.p, abs=0.02)
    assert found.interval == pytest.approx(exact.permutation.interval_95, abs=0.05)


def test_the_interval_holds_the_shifts_that_are_not_rejected():
    covariate, gain = drawn(2, 0.2)
    found = freedman_lane(gain, RELATED, {"x": covariate}, draws=999)
    low, high = found.interval
    for shift, kept in ((low + 0.01, True), (high - 0.01, True), (low - 0.01, False)):
        p = freedman_lane(gain - shift * RELATED, RELATED, {"x": covariate}, draws=999).p
        assert (p > 0.05) == kept


def test_what_a_covariate_explains_is_taken_out():
    rng = np.random.default_rng(3)
    covariate = RELATED + rng.normal(0, 0.3, 16)
    gain = 0.4 * covariate + rng.normal(0, 0.02, 16)
    assert relatedness_contrast(gain, RELATED, None).permutation.p < 0.05
    found = freedman_lane(gain, RELATED, {"x": covariate}, draws=999)
    assert abs(found.estimate) < 0.1
    assert found.p > 0.05


def test_noise_in_a_baseline_and_its_gain_is_taken_out():
    # True gains do not depend on true baselines; relatives' baselines are lower by one.
    rng = np.random.default_rng(4)
    related = np.arange(4000) < 1000
    truth = rng.normal(size=4000) - related
    noise = rng.normal(0, 0.7, 4000)
    gain, base = 0.3 - noise + rng.normal(0, 0.5, 4000), truth + noise
    plain = freedman_lane(gain, related, {"b": base}, draws=9, with_interval=False)
    assert plain.estimate < -0.2
    y, x = without_shared_noise(gain, base, related[:, None].astype(float), 0.49, -0.49)
    mended = freedman_lane(y, related, {"b": x}, draws=9, with_interval=False)
    assert mended.estimate == pytest.approx(0, abs=0.06)
    assert mended.slopes["b"] == pytest.approx(0, abs=0.04)


def test_what_cannot_be_adjusted_for_is_refused():
    covariate, gain = drawn(5)
    with pytest.raises(ComparisonError, match="barely more than by sampling noise"):
        without_shared_noise(gain, covariate, RELATED[:, None].astype(float), 2.0, -2.0)
    with pytest.raises(ComparisonError, match="barely more than by sampling noise"):
        without_shared_noise(gain, np.full(16, 0.3), RELATED[:, None].astype(float), 0.0, 0.0)
    with pytest.raises(ComparisonError, match="adjusting for x, y is not possible"):
        freedman_lane(gain, RELATED, {"x": covariate, "y": 2 * covariate})
    with pytest.raises(ComparisonError, match="separate the groups completely"):
        freedman_lane(gain, RELATED, {"x": RELATED * 2.0})
    with pytest.raises(ComparisonError, match="leaves 2 degrees of freedom among 5 languages"):
        freedman_lane(gain[:5], RELATED[2:7], {"x": covariate[:5]})
