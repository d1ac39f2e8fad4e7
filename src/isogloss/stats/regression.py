"""Ordinary least squares with independent errors of one variance, as published analyses report it.

Shapes are suffixes: N observations.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.errors import ComparisonError
from isogloss.stats.distributions import t_quantile, t_upper
from isogloss.types import Interval

INTERCEPT = "intercept"


class Coefficient(NamedTuple):
    """A coefficient with its standard error, 95% interval and two-sided p of zero."""

    estimate: float
    se: float
    interval: Interval
    p: float


class LeastSquares(NamedTuple):
    """A fit of `n` observations with `df` residual degrees of freedom.

    `coefficients` holds the intercept first. `r_squared` is NaN where the response does not vary.
    """

    coefficients: Mapping[str, Coefficient]
    r_squared: float
    n: int
    df: int


def least_squares(y_N: npt.ArrayLike, columns: Mapping[str, npt.ArrayLike]) -> LeastSquares:
    """Least-squares fit of `y_N` on an intercept and `columns`, all [N].

    Standard errors assume that observations are independent and equally noisy; tests and intervals
    use Student's t with N minus the number of coefficients degrees of freedom. Equals statsmodels'
    `OLS(...).fit()`.

    ComparisonError if no degree of freedom remains or columns are linearly dependent.
    """
    y = np.asarray(y_N, dtype=np.float64)
    design = np.column_stack(
        [np.ones_like(y), *(np.asarray(column, dtype=np.float64) for column in columns.values())]
    )
    n, n_coefficients = design.shape
    df = n - n_coefficients
    if df < 1:
        raise ComparisonError(
            f"a regression with {n_coefficients} coefficients needs at least {n_coefficients + 1} "
            f"observations, but got {n}."
        )
    scales = np.linalg.norm(design, axis=0)
    if np.linalg.matrix_rank(design / np.where(scales > 0, scales, 1)) < n_coefficients:
        raise ComparisonError(
            f"a regression on {' and '.join(columns)} is not possible: in these {n} observations "
            f"they are constant or redundant."
        )
    inverse = np.linalg.pinv(design)
    estimates = inverse @ y
    residual_N = y - design @ estimates
    squares, total = float(residual_N @ residual_N), float(((y - y.mean()) ** 2).sum())
    # Rounding leaves coefficients and residuals of 1e-17 in an exact fit, with any p.
    rounding = 1e-12 * float(np.abs(y).max())
    squares = squares if squares > n * rounding**2 else 0.0
    estimates[np.abs(estimates) * np.abs(design).max(axis=0) <= rounding] = 0.0
    errors = np.sqrt(squares / df * (inverse**2).sum(axis=1))
    names = (INTERCEPT, *columns)
    return LeastSquares(
        {
            name: _coefficient(float(estimate), float(se), df)
            for name, estimate, se in zip(names, estimates, errors, strict=True)
        },
        r_squared=1 - squares / total if np.ptp(y) else math.nan,
        n=n,
        df=df,
    )


def _coefficient(estimate: float, se: float, df: int) -> Coefficient:
    half = se * t_quantile(0.975, df)
    p = 2 * t_upper(abs(estimate) / se, df) if se > 0 else float(estimate == 0)
    return Coefficient(estimate, se, Interval(estimate - half, estimate + half), p)
