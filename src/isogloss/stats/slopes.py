"""Slopes of one difference on another that share noise: cross-fitted, tested by permutation.

A gain is tuned accuracy minus base accuracy, so noise in the base score alone makes weak baselines
"gain more" and makes the gains of two conditions rise and fall together. Passages are independent,
so a product of a sum over some passages with a sum over others carries none of that noise. Shapes
are suffixes: P passages, U units (languages, or models), Z relabellings.
"""

import math
from collections.abc import Sequence
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

LEAST_KEPT = 1e-3  # of one unit's residual, however far out its x


class SlopeTest(NamedTuple):
    """A slope with its permutation test and the 95% interval that inverts it.

    `naive` is the slope of ordinary least squares on the same scores, noise and all; the interval
    is infinite on the sides that the data do not bound.
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
        """Whether the data bound the slope on one side at least."""
        return math.isfinite(self.slope) and any(map(math.isfinite, self.interval))


class Scatter(NamedTuple):
    """Sums of products of two variables over pairs of units, [U, U], and the same with noise.

    Entry (i, j) estimates the product of unit i's x with unit j's y, both centred over the units.
    """

    crossfitted: FloatArray
    naive: FloatArray


def scatter(x_PU: FloatArray, y_PU: FloatArray, weight_PU: FloatArray) -> Scatter:
    """Scatter of two variables that were measured on the same passages.

    `x_PU` and `y_PU` hold each passage's share in each unit's mean: summed over passages they give
    the unit's x and y. `weight_PU` is the share of the unit's items that the passage has (columns
    sum to 1). The cross-fitted products leave out those of a passage with itself, which is what
    estimating x on one half of the passages and y on the other comes to when it is averaged over
    all halvings at once; they are unbiased where passages are independent. ComparisonError with a
    single passage, whose noise cannot be told from its score.
    """
    own_UU = weight_PU.T @ weight_PU
    if own_UU.max() > 1 - 1e-9:
        raise ComparisonError("cross-fitting needs items from at least two passages a language.")
    full_UU = np.outer(x_PU.sum(axis=0), y_PU.sum(axis=0))
    other_UU = (full_UU - x_PU.T @ y_PU) / (1 - own_UU)
    return Scatter(_centred(other_UU), _centred(full_UU))


def noise_free_scatter(x_U: FloatArray, y_U: FloatArray) -> Scatter:
    """Scatter of variables that share no noise, so that there is nothing to cross-fit."""
    products_UU = _centred(np.outer(x_U, y_U))
    return Scatter(products_UU, products_UU)


def slope_test(
    yx: Scatter,
    xx: Scatter,
    yy: Scatter,
    *,
    seed: int = 0,
    draws: int = MAX_PERMUTATIONS,
    studentized: bool = True,
) -> SlopeTest:
    """Slope of y on x from their scatter, with units exchangeable under the null of no relation.

    `yx` has y's unit in its rows and x's in its columns. For a slope b the residual y - b x of a
    unit says nothing of its x, so the cross-fitted sum of their products is compared with the same
    sum over relabelled units: all orders of up to 7 units, else `draws` seeded ones with the
    observed one among them (Phipson and Smyth 2010). p is for a slope of zero, two-sided. The
    interval holds every b with p > 0.05 (Anderson and Rubin's inversion, 1949, with a permutation
    distribution), so it stays honest, and may be infinite, where x hardly varies.

    Sums are compared over their standard errors, robust to residuals that spread more where x is
    low, as gains do under a ceiling (DiCiccio and Romano 2017; the error is HC3 of MacKinnon and
    White 1985). That also evens out that a unit's own noise in y and x goes together, and that of
    two different units does not. With `alike` the sums themselves are compared, which is the
    permutation test of a correlation: right where nothing but exchangeable y is in question.
    """
    n_units = len(xx.crossfitted)
    if n_units < 3:
        raise ComparisonError(f"a slope needs at least 3 units, but got {n_units}.")
    orders_ZU, exact = unit_orders(n_units, draws, seed)
    p, interval = _tested(yx, xx, orders_ZU, studentized)
    yx_true, xx_true, yy_true = (float(np.trace(each.crossfitted)) for each in (yx, xx, yy))
    yx_seen, xx_seen, yy_seen = (float(np.trace(each.naive)) for each in (yx, xx, yy))
    return SlopeTest(
        slope=yx_true / xx_true if xx_true > 0 else math.nan,
        interval=interval,
        p=p,
        correlation=_correlation(yx_true, xx_true, yy_true),
        naive=yx_seen / xx_seen if xx_seen > 0 else math.nan,
        naive_correlation=_correlation(yx_seen, xx_seen, yy_seen),
        n_units=n_units,
        permutations=len(orders_ZU),
        exact=exact,
    )


def _tested(
    yx: Scatter, xx: Scatter, orders_ZU: npt.NDArray[np.intp], studentized: bool
) -> tuple[float, Interval]:
    """p of b = 0 and the 95% interval; the statistic is (u - b v)^2 over its variance."""
    here_U = np.arange(len(xx.crossfitted))
    y_ZU, x_ZU = (each.crossfitted[here_U, orders_ZU] for each in (yx, xx))
    u_Z, v_Z = y_ZU.sum(axis=1), x_ZU.sum(axis=1)
    squares_U = np.diag(xx.naive)
    total = float(squares_U.sum())
    if total <= 0:
        return 1.0, Interval(-math.inf, math.inf)
    # What is left of each product once the fitted slope is taken out, over 1 - leverage. The slope
    # is fitted to x with its noise, whose sum of squares is never near zero.
    squares_ZU = squares_U[orders_ZU]
    kept_ZU = np.maximum(1 - 1 / len(here_U) - squares_ZU / total, LEAST_KEPT)
    left = [
        (products_ZU - (products_ZU.sum(axis=1) / total)[:, None] * squares_ZU) / kept_ZU
        for products_ZU in (y_ZU, x_ZU)
    ]
    yy_Z, yx_Z, xx_Z = (
        np.einsum("zu,zu->z", left[i], left[j]) for i, j in ((0, 0), (0, 1), (1, 1))
    )

    def p_at(slope: float, one: float = 1.0) -> float:
        """p of a slope; with `one` = 0, of one without end."""
        distance_Z = np.abs(one * u_Z - slope * v_Z)
        distance_Z[distance_Z < 1e-9 * distance_Z.max()] = 0.0  # exact ties survive rounding
        if not studentized:
            return permutation_p(distance_Z)
        variance_Z = one**2 * yy_Z - 2 * slope * one * yx_Z + slope**2 * xx_Z
        least = 1e-20 * float(distance_Z.max()) ** 2 + np.finfo(float).tiny
        return permutation_p(distance_Z**2 / np.maximum(variance_Z, least))

    p = p_at(0.0)
    if v_Z[0] <= 1e-12 * total or p_at(1.0, one=0.0) > ALPHA:
        return p, Interval(-math.inf, math.inf)  # no slope is too steep for the data
    slope = float(u_Z[0] / v_Z[0])
    if studentized:
        variance = float(yy_Z[0] - 2 * slope * yx_Z[0] + slope**2 * xx_Z[0])
        error = math.sqrt(max(0.0, variance)) / float(v_Z[0])
    else:
        error = float(np.std(u_Z - slope * v_Z)) / float(v_Z[0])
    return p, invert_test(p_at, slope, error)


def _centred(products_UU: FloatArray) -> FloatArray:
    centred: FloatArray = (
        products_UU
        - products_UU.mean(axis=0, keepdims=True)
        - products_UU.mean(axis=1, keepdims=True)
        + products_UU.mean()
    )
    return centred


def _correlation(yx: float, xx: float, yy: float) -> float:
    """In [-1, 1]; NaN where a variance is estimated to be zero or less."""
    if min(xx, yy) <= 0:
        return math.nan
    return max(-1.0, min(1.0, yx / math.sqrt(xx * yy)))


def pool_scatters(scatters: Sequence[Scatter]) -> Scatter:
    """Scatter within strata (models) that have the same units (languages): the sum."""
    crossfitted, naive = (np.sum(each, axis=0) for each in zip(*scatters, strict=True))
    return Scatter(crossfitted, naive)
