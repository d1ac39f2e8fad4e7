"""Slopes of one difference on another with shared noise: cross-fitted, tested by permutation.

A gain is accuracy after minus accuracy before, so noise in the accuracy before makes weak baselines
"gain more", and makes the gains of two conditions correlate. Passages are independent, so the
product of a sum over some passages and a sum over other passages is free of that noise.

Shapes are suffixes: P passages, U units (languages, or models), Z permutations.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.errors import ComparisonError
from isogloss.stats.permutation import (
    ALPHA,
    MAX_PERMUTATIONS,
    invert_test,
    permutation_p,
    unit_orders,
)
from isogloss.types import FloatArray, Interval

LEAST_RETAINED = 1e-3  # of a unit's residual, however large its leverage


class SlopeTest(NamedTuple):
    """A slope with its permutation test and the 95% interval that inverts the test.

    `naive` is the ordinary least-squares slope of the same scores, with the shared noise. An end of
    the interval is infinite where the data set no bound. `slope` is NaN where the cross-fitted
    variance of x is not positive.
    """

    slope: float
    interval: Interval
    p: float
    correlation: float
    naive: float
    naive_correlation: float
    n_units: int
    permutations: int
    exact: bool

    @property
    def bounded(self) -> bool:
        """Whether the slope is defined and the data bound it on at least one side."""
        return math.isfinite(self.slope) and any(map(math.isfinite, self.interval))


class Scatter(NamedTuple):
    """Products of two variables over pairs of units, [U, U]: cross-fitted, and naive with noise.

    Entry (i, j) estimates the product of x of unit i and y of unit j, both centred over units; the
    trace estimates the sum of products.
    """

    crossfitted: FloatArray
    naive: FloatArray

    @property
    def total(self) -> float:
        """The cross-fitted sum of products over units."""
        return float(np.trace(self.crossfitted))


def scatter(x_PU: FloatArray, y_PU: FloatArray, weight_PU: FloatArray) -> Scatter:
    """Scatter of two variables measured on the same passages.

    `x_PU` and `y_PU` are the contributions of each passage to each unit: summed over passages they
    give the x and y of the unit. `weight_PU` is the share of the unit's items that are on the
    passage (columns sum to 1).

    Cross-fitted products omit the products of a passage with itself, with W = weight^T weight:

        (sum_p x_p sum_q y_q - sum_p x_p y_p) / (1 - W).

    This is the average, over all ways to halve the passages, of estimating x on one half and y on
    the other; it is unbiased if passages are independent. ComparisonError with a single passage,
    whose noise cannot be separated from its score.
    """
    own_UU = weight_PU.T @ weight_PU
    if own_UU.max() > 1 - 1e-9:
        raise ComparisonError("cross-fitting needs items from at least two passages per language.")
    full_UU = np.outer(x_PU.sum(axis=0), y_PU.sum(axis=0))
    other_UU = (full_UU - x_PU.T @ y_PU) / (1 - own_UU)
    return Scatter(_centred(other_UU), _centred(full_UU))


def noise_free_scatter(x_U: FloatArray, y_U: FloatArray) -> Scatter:
    """Scatter of variables without shared noise, which need no cross-fitting."""
    products_UU = _centred(np.outer(x_U, y_U))
    return Scatter(products_UU, products_UU)


def pool_scatters(scatters: Sequence[Scatter]) -> Scatter:
    """Scatter within strata (models) that have the same units (languages): the sum."""
    crossfitted, naive = (np.sum(products, axis=0) for products in zip(*scatters, strict=True))
    return Scatter(crossfitted, naive)


def without(
    covariate: str, left: str, right: str, of: Mapping[tuple[str, str], Scatter]
) -> Scatter:
    """Scatter of `left` and `right` with the cross-fitted slope on `covariate` removed from both.

    `of` holds the scatter of each pair of these names.
    """
    own = of[covariate, covariate]
    b, c = (of[name, covariate].total / own.total for name in (left, right))
    crossfitted, naive = (
        both - b * x_right - c * left_x + b * c * x_x
        for both, x_right, left_x, x_x in zip(
            of[left, right], of[covariate, right], of[left, covariate], own, strict=True
        )
    )
    return Scatter(crossfitted, naive)


def slope_test(
    yx: Scatter,
    xx: Scatter,
    yy: Scatter,
    *,
    seed: int = 0,
    draws: int = MAX_PERMUTATIONS,
    studentized: bool = True,
) -> SlopeTest:
    """Slope of y on x from their scatter; units are exchangeable if there is no relation.

    `yx` has y's unit in its rows and x's in its columns. The slope is trace(yx) / trace(xx),
    cross-fitted. At a slope b the residual y - b x of a unit carries no information about its x, so
    the sum over units of their products is compared with the same sum over permuted units: all
    orders of up to 7 units, otherwise `draws` random ones and the observed one. p is two-sided for
    a slope of zero. The interval contains every b with p > 0.05 (the inversion of Anderson and
    Rubin 1949, with a permutation distribution); it keeps its coverage, and may be infinite, where
    x barely varies.

    By default the sums are studentized: divided by their HC3 standard errors (MacKinnon and White
    1985; DiCiccio and Romano 2017), which allows residuals whose spread depends on x, as with
    gains under a ceiling. It also compensates that noise in y and x is correlated within a unit and
    not between two units. With `studentized` false the sums themselves are compared, the
    permutation test of a correlation, which is right where y is exchangeable and x has no noise.

    ComparisonError with fewer than three units.
    """
    n_units = len(xx.crossfitted)
    if n_units < 3:
        raise ComparisonError(f"a slope needs at least 3 units, but got {n_units}.")
    orders_ZU, exact = unit_orders(n_units, draws, seed)
    p, interval = _test_and_interval(yx, xx, orders_ZU, studentized)
    yx_sum, xx_sum, yy_sum = (float(np.trace(s.crossfitted)) for s in (yx, xx, yy))
    yx_naive, xx_naive, yy_naive = (float(np.trace(s.naive)) for s in (yx, xx, yy))
    return SlopeTest(
        slope=yx_sum / xx_sum if xx_sum > 0 else math.nan,
        interval=interval,
        p=p,
        correlation=_correlation(yx_sum, xx_sum, yy_sum),
        naive=yx_naive / xx_naive if xx_naive > 0 else math.nan,
        naive_correlation=_correlation(yx_naive, xx_naive, yy_naive),
        n_units=n_units,
        permutations=len(orders_ZU),
        exact=exact,
    )


def _test_and_interval(
    yx: Scatter, xx: Scatter, orders_ZU: npt.NDArray[np.intp], studentized: bool
) -> tuple[float, Interval]:
    """p of a slope of zero, and the 95% interval.

    The statistic of a slope b is |u - b v|, or its square over its variance, with u and v the sums
    of permuted yx and xx products.
    """
    unit_U = np.arange(len(xx.crossfitted))
    y_ZU, x_ZU = (products.crossfitted[unit_U, orders_ZU] for products in (yx, xx))
    u_Z, v_Z = y_ZU.sum(axis=1), x_ZU.sum(axis=1)
    squares_U = np.diag(xx.naive)
    total = float(squares_U.sum())
    if total <= 0:
        return 1.0, Interval(-math.inf, math.inf)
    yy_Z, yx_Z, xx_Z = _residual_products(y_ZU, x_ZU, squares_U[orders_ZU], total)

    def p_at(slope: float, y_factor: float = 1.0) -> float:
        """p of a slope; with `y_factor` 0, of an infinitely steep one."""
        distance_Z = np.abs(y_factor * u_Z - slope * v_Z)
        distance_Z[distance_Z < 1e-9 * distance_Z.max()] = 0.0  # exact ties survive rounding
        if not studentized:
            return permutation_p(distance_Z)
        variance_Z = y_factor**2 * yy_Z - 2 * slope * y_factor * yx_Z + slope**2 * xx_Z
        least = 1e-20 * float(distance_Z.max()) ** 2 + np.finfo(float).tiny
        return permutation_p(distance_Z**2 / np.maximum(variance_Z, least))

    p = p_at(0.0)
    if v_Z[0] <= 1e-12 * total or p_at(1.0, y_factor=0.0) > ALPHA:
        return p, Interval(-math.inf, math.inf)  # the data exclude no slope, however steep
    slope = float(u_Z[0] / v_Z[0])
    if studentized:
        variance = float(yy_Z[0] - 2 * slope * yx_Z[0] + slope**2 * xx_Z[0])
        error = math.sqrt(max(0.0, variance)) / float(v_Z[0])
    else:
        error = float(np.std(u_Z - slope * v_Z)) / float(v_Z[0])
    return p, invert_test(p_at, slope, error)


def _residual_products(
    y_ZU: FloatArray, x_ZU: FloatArray, squares_ZU: FloatArray, total: float
) -> list[FloatArray]:
    """Sums over units, [Z] each, of products of HC3 residuals: yy, yx and xx.

    A residual is what remains of a product once the fitted slope is removed, over (1 - leverage).
    The slope is fitted to x with its noise, whose sum of squares is never close to zero.
    """
    n_units = squares_ZU.shape[1]
    retained_ZU = np.maximum(1 - 1 / n_units - squares_ZU / total, LEAST_RETAINED)
    residuals = [
        (products_ZU - (products_ZU.sum(axis=1) / total)[:, None] * squares_ZU) / retained_ZU
        for products_ZU in (y_ZU, x_ZU)
    ]
    return [np.einsum("zu,zu->z", residuals[i], residuals[j]) for i, j in ((0, 0), (0, 1), (1, 1))]


def _centred(products_UU: FloatArray) -> FloatArray:
    centred: FloatArray = (
        products_UU
        - products_UU.mean(axis=0, keepdims=True)
        - products_UU.mean(axis=1, keepdims=True)
        + products_UU.mean()
    )
    return centred


def _correlation(yx: float, xx: float, yy: float) -> float:
    """Correlation from sums of products, in [-1, 1]; NaN where a variance is not positive."""
    if min(xx, yy) <= 0:
        return math.nan
    return max(-1.0, min(1.0, yx / math.sqrt(xx * yy)))
