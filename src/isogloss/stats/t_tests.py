"""Student's and Welch's t tests, with languages (or models) as replicates.

Shapes are suffixes: L languages, R related, C controls.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.errors import ComparisonError
from isogloss.stats.distributions import t_quantile, t_upper
from isogloss.types import FloatArray, Interval


class WelchTest(NamedTuple):
    """A difference of means tested by Welch's unequal-variance t; `interval` has 95% coverage."""

    t: float
    df: float
    se: float
    p: float
    interval: Interval


class MeanTest(NamedTuple):
    """The mean of one sample of languages (or models) against zero, by Student's t."""

    estimate: float
    se: float
    p: float
    interval_95: Interval
    interval_90: Interval
    n: int


def welch_test(related_R: FloatArray, control_C: FloatArray) -> WelchTest:
    """Welch's t test of the difference of means of `related_R`, [R], and `control_C`, [C].

    Equals scipy's `ttest_ind(equal_var=False)`. If neither group varies, the standard error is 0,
    df is R + C - 2, and p is 1 for equal means and 0 for different ones.
    """
    estimate = float(related_R.mean() - control_C.mean())
    parts = [_variance_of_mean(related_R), _variance_of_mean(control_C)]
    se = math.sqrt(sum(parts))
    if se == 0:
        same = bool(related_R[0] == control_C[0])
        t = 0.0 if same else math.copysign(math.inf, estimate)
        df = float(len(related_R) + len(control_C) - 2)
        return WelchTest(t, df, 0.0, float(same), Interval(estimate, estimate))
    shares = [part / sum(parts) for part in parts]
    # Welch and Satterthwaite's degrees of freedom.
    df = 1 / (shares[0] ** 2 / (len(related_R) - 1) + shares[1] ** 2 / (len(control_C) - 1))
    t = estimate / se
    half = se * t_quantile(0.975, df)
    interval = Interval(estimate - half, estimate + half)
    return WelchTest(t, df, se, 2 * t_upper(abs(t), df), interval)


def mean_test(value_L: npt.ArrayLike) -> MeanTest:
    """Student's one-sample t test of the mean of `value_L`, [L], against zero.

    Equals scipy's `ttest_1samp`. The 90% interval is that of two one-sided tests at 5%. Values that
    do not vary have a standard error of 0, and p is 1 if they are zero and 0 otherwise.
    ComparisonError with fewer than two values.
    """
    value = np.asarray(value_L, dtype=np.float64)
    if len(value) < 2:
        raise ComparisonError(f"a mean needs at least 2 values for a test, but got {len(value)}.")
    estimate = float(value.mean())
    se = math.sqrt(_variance_of_mean(value))
    p = 2 * t_upper(abs(estimate) / se, len(value) - 1) if se else float(estimate == 0)
    interval_95, interval_90 = (
        Interval(estimate - half, estimate + half)
        for half in (se * t_quantile(level, len(value) - 1) for level in (0.975, 0.95))
    )
    return MeanTest(estimate, se, p, interval_95, interval_90, len(value))


def tost(related_R: FloatArray, control_C: FloatArray, margin: float) -> float:
    """The larger p of two one-sided Welch tests against -margin and +margin (Schuirmann 1987).

    A small p shows that the difference of means lies within the margin. Equals statsmodels'
    `ttost_ind(usevar="unequal")`.
    """
    estimate = float(related_R.mean() - control_C.mean())
    welch = welch_test(related_R, control_C)
    if welch.se == 0:
        return float(abs(estimate) >= margin)
    return t_upper((margin - abs(estimate)) / welch.se, welch.df)


def _variance_of_mean(values_N: FloatArray) -> float:
    # Equal values can differ from their rounded mean, which would give a variance of 1e-34.
    return float(values_N.var(ddof=1)) / len(values_N) if np.ptp(values_N) else 0.0
