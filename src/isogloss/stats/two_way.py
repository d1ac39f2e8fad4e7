"""The mean over languages that share items, with languages and passages both taken as samples.

Shapes are suffixes: P passages, L languages.
"""

import math
from typing import NamedTuple

import numpy as np

from isogloss.errors import ComparisonError
from isogloss.stats.distributions import t_quantile, t_upper
from isogloss.types import FloatArray, Interval


class TwoWayMean(NamedTuple):
    """A mean over `n` languages, with Student's t on `df` degrees of freedom; p is against zero."""

    estimate: float
    se: float
    df: float
    p: float
    interval_95: Interval
    interval_90: Interval
    n: int

    def adjusted_interval(self, tests: int) -> Interval:
        """The 95% interval, adjusted for a number of tests by Bonferroni's method."""
        half = self.se * -t_quantile(0.025 / tests, self.df)
        return Interval(self.estimate - half, self.estimate + half)

    def p_within(self, margin: float) -> float:
        """The larger p of two one-sided tests against -margin and +margin (Schuirmann 1987)."""
        if self.se == 0:
            return float(abs(self.estimate) >= margin)
        return t_upper((margin - abs(self.estimate)) / self.se, self.df)

    def p_beyond(self, value: float) -> float:
        """The p of a one-sided test that the mean is not above `value`."""
        if self.se == 0:
            return float(self.estimate <= value)
        return t_upper((self.estimate - value) / self.se, self.df)


def two_way_mean(value_PL: FloatArray, weight_PL: FloatArray) -> TwoWayMean:
    """The mean over languages, with a standard error for other languages and other passages.

    `value_PL` are the contributions of passages to the value of each language, which is their sum;
    `weight_PL` is the share of the language's items that are on the passage (columns sum to 1).

    The variance is clustered in two ways (Cameron, Gelbach and Miller 2011): between languages,
    plus between passages in the mean over languages, minus the sampling noise that both contain;
    at least the larger of the two. Degrees of freedom are Welch and Satterthwaite's. With a single
    passage, only languages are taken as a sample. ComparisonError with fewer than two languages.
    """
    n_passages, n_languages = value_PL.shape
    if n_languages < 2:
        raise ComparisonError(
            f"a mean over languages needs at least 2 of them, but got {n_languages}."
        )
    value_L = value_PL.sum(axis=0)
    estimate = float(value_L.mean())
    # Equal values can differ from their rounded mean, which would give a variance of 1e-34.
    between = float(value_L.var(ddof=1)) / n_languages if np.ptp(value_L) > 1e-12 else 0.0
    passages = noise = 0.0
    if n_passages > 1:
        deviation_PL = value_PL - weight_PL * value_L
        factor = n_passages / (n_passages - 1) / n_languages**2
        passages = factor * float((deviation_PL.sum(axis=1) ** 2).sum())
        noise = factor * float((deviation_PL**2).sum())
        passages = passages if passages > 1e-24 else 0.0
    variance = max(between + passages - noise, between, passages)
    if variance == 0:
        point = Interval(estimate, estimate)
        zero = abs(estimate) < 1e-12
        return TwoWayMean(estimate, 0.0, n_languages - 1, float(zero), point, point, n_languages)
    parts = between**2 / (n_languages - 1) + passages**2 / max(n_passages - 1, 1)
    df, se = max(variance**2 / parts, 1.0), math.sqrt(variance)
    interval_95, interval_90 = (
        Interval(estimate - half, estimate + half)
        for half in (se * t_quantile(level, df) for level in (0.975, 0.95))
    )
    p = 2 * t_upper(abs(estimate) / se, df)
    return TwoWayMean(estimate, se, df, p, interval_95, interval_90, n_languages)
