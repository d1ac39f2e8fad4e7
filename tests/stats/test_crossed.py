from itertools import permutations

import numpy as np
import pytest
import statsmodels.api as sm

from isogloss.stats.crossed import crossed_effect

# Four sources with three, two, three and no relatives among nine targets; gains in 400ths.
BRANCHES = ("Semitic", "Turkic", "Bantu", "Japonic")
TARGET_BRANCHES = ("Semitic",) * 3 + ("Turkic",) * 2 + ("Bantu",) * 3 + ("Korean",)
KIN = np.array([[own == other for other in TARGET_BRANCHES] for own in BRANCHES], dtype=float)
GAIN = (
    np.array(
        [
            [31, 22, 40, 12, 9, 25, 14, 18, 6],
            [20, 19, 33, 27, 15, 22, 16, 10, 9],
            [25, 12, 30, 15, 6, 38, 21, 24, 3],
            [18, 20, 28, 14, 11, 24, 9, 15, 7],
        ]
    )
    / 400
)
SCRIPT = np.random.default_rng(5).integers(0, 2, GAIN.shape).astype(float)


def dummies(shape):
    """Indicators of sources and of targets for each cell in order; full rank."""
    n_sources, n_targets = shape
    source, target = np.divmod(np.arange(n_sources * n_targets), n_targets)
    return np.column_stack([np.eye(n_sources)[source], np.eye(n_targets)[target][:, 1:]])


def ols_t(gain, kin, covariates=()):
    """Coefficient and t of kinship by least squares with an indicator of each source and target."""
    cells = ~np.isnan(gain.ravel())
    columns = [kin.ravel(), *(values.ravel() for values in covariates), *dummies(gain.shape).T]
    fit = sm.OLS(gain.ravel()[cells], np.column_stack(columns)[cells]).fit()
    return fit.params[0], fit.tvalues[0]


def direct_p(gain, kin, covariates=()):
    """Share of row orders of kinship whose absolute t is at least the observed one, fitted anew."""
    observed = abs(ols_t(gain, kin, covariates)[1])
    absolute = [
        abs(ols_t(gain, kin[list(order)], covariates)[1]) for order in permutations(range(len(kin)))
    ]
    return np.mean(np.array(absolute) >= observed - 1e-9)


def test_the_estimate_is_that_of_least_squares_with_effects_of_sources_and_targets():
    effect = crossed_effect(GAIN, KIN, BRANCHES)
    assert effect.estimate == pytest.approx(ols_t(GAIN, KIN)[0])
    assert (effect.n_sources, effect.n_targets, effect.n_cells) == (4, 9, 36)
    assert (effect.n_branches, effect.n_related_branches) == (4, 3)


def test_p_is_that_of_every_order_of_the_rows_fitted_anew():
    effect = crossed_effect(GAIN, KIN, BRANCHES)
    assert effect.p == pytest.approx(direct_p(GAIN, KIN))
    assert (effect.matchings, effect.exact, effect.lowest_p) == (24, True, 1 / 24)


def test_the_robust_interval_is_that_of_two_way_clustered_errors():
    effect = crossed_effect(GAIN, KIN, BRANCHES)
    source, target = np.divmod(np.arange(GAIN.size), GAIN.shape[1])
    design = np.column_stack([KIN.ravel(), dummies(GAIN.shape)])
    fit = sm.OLS(GAIN.ravel(), design).fit(
        cov_type="cluster",
        cov_kwds={"groups": np.column_stack([source, target]), "use_correction": True},
    )
    half = (effect.robust.high - effect.robust.low) / 2
    error = fit.cov_params()[0, 0] ** 0.5
    assert half == pytest.approx(error * 3.182446305284263)  # t with 3 degrees of freedom
