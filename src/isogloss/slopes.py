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

from isogloss.errors import ComparisonError
from isogloss.paired import FloatArray, Interval
from isogloss.permuting import MAX_PERMUTATIONS, orders


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
    units: int
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

    def __add__(self, other: "Scatter") -> "Scatter":  # type: ignore[override]
        """Scatter within several strata (models) that have the same units (languages)."""
        return Scatter(self.crossfitted + other.crossfitted, self.naive + other.naive)


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


def exact_scatter(x_U: FloatArray, y_U: FloatArray) -> Scatter:
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
) -> SlopeTest:
    """Slope of y on x from their scatter, with units exchangeable under the null of no relation.

    `yx` has y's unit in its rows and x's in its columns. For a slope b the residual y - b x of a
    unit says nothing of its x, so the cross-fitted sum of their products is compared with the same
    sum over relabelled units: all orders of up to 7 units, else `draws` seeded ones with the
    observed one among them (Phipson and Smyth 2010). p is for a slope of zero, two-sided. The
    interval holds every b with p > 0.05 (Anderson and Rubin's inversion, 1949, with a permutation
    distribution), so it stays honest, and may be infinite, where x hardly varies. It takes the
    relation to be a straight line, with residuals alike in spread for all units.
    """
    n_units = len(xx.crossfitted)
    if n_units < 3:
        raise ComparisonError(f"a slope needs at least 3 units, but got {n_units}.")
    orders_ZU, exact = orders(n_units, draws, seed)
    here_U = np.arange(n_units)
    sums = [each.crossfitted[here_U, orders_ZU].sum(axis=1) for each in (yx, xx)]
    p, interval = inverted(*sums)
    yx_true, xx_true, yy_true = (float(np.trace(each.crossfitted)) for each in (yx, xx, yy))
    yx_seen, xx_seen, yy_seen = (float(np.trace(each.naive)) for each in (yx, xx, yy))
    return SlopeTest(
        slope=yx_true / xx_true if xx_true > 0 else math.nan,
        interval=interval if xx_true > 0 else Interval(-math.inf, math.inf),
        p=p,
        correlation=_correlation(yx_true, xx_true, yy_true),
        naive=yx_seen / xx_seen if xx_seen > 0 else math.nan,
        naive_correlation=_correlation(yx_seen, xx_seen, yy_seen),
        units=n_units,
        permutations=len(orders_ZU),
        exact=exact,
    )


def inverted(u_Z: FloatArray, v_Z: FloatArray, alpha: float = 0.05) -> tuple[float, Interval]:
    """p of b = 0, and the b with p > `alpha`, of a test whose statistic is |u - b v|.

    Both are [Z], of all relabellings, the observed one first. A relabelling counts against b when
    |u_z - b v_z| >= |u - b v|: between the two roots of a quadratic around u / v if |v_z| < v, and
    everywhere from one root outwards otherwise, which is taken as everywhere. So the ends of the
    interval are order statistics of the roots, found without search.
    """
    u, v = float(u_Z[0]), float(v_Z[0])
    slack = 1e-9 * float(np.abs(u_Z).max())
    p = float((np.abs(u_Z) >= abs(u) - slack).mean())
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = np.stack([(u_Z - u) / (v_Z - v), (u_Z + u) / (v_Z + v)])
    always_Z = np.abs(v_Z) >= abs(v) * (1 - 1e-9)
    low_Z = np.where(always_Z, -math.inf, roots.min(axis=0))
    high_Z = np.where(always_Z, math.inf, roots.max(axis=0))
    # Kept are the b against which more than alpha of the relabellings count.
    rank = math.floor(len(u_Z) * alpha + 1e-9) + 1
    low_Z.sort()
    high_Z.sort()
    return p, Interval(float(low_Z[rank - 1]), float(high_Z[-rank]))


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


def pooled(scatters: Sequence[Scatter]) -> Scatter:
    """Scatter within strata: the sum."""
    total = scatters[0]
    for each in scatters[1:]:
        total += each
    return total
