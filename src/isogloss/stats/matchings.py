"""The test of matchings: a studentised estimate, compared between all ways to match the rows.

Shapes are suffixes: T targets, B branches of sources, Z matchings, the observed one first.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.stats.crossed_design import TOLERANCE, CrossedDesign
from isogloss.types import BoolArray, FloatArray, Interval

LEAST_ERROR = 1 / 3  # of the error over all matchings: the smallest standard error of one of them
DOUBLINGS = 60
BISECTIONS = 50


@dataclass(frozen=True)
class MatchingTest:
    """Tests of `gain - shift * kin`, from statistics that are polynomials of the shift.

    They are of d, the shift beyond `estimate`. `sums` - d `kin_sums`, [Z], are products of gains
    with matched kinship over the length of the latter. `squares` are their variances, clustered by
    row, and `mean_square` is their mean square over matchings, the variance if rows are
    exchangeable: coefficients of 1, -2d and d^2. Matchings that are `undefined`, [Z], leave nothing
    of kinship to compare and count against a finding.
    `error` is the standard error of `estimate` if rows are exchangeable, with `df` degrees of
    freedom; NaN with none. `scale` is the size of gains.
    """

    estimate: float
    error: float
    df: int
    scale: float
    sums: FloatArray
    kin_sums: FloatArray
    squares: tuple[FloatArray, FloatArray, FloatArray]
    mean_square: tuple[float, float, float]
    undefined: BoolArray

    def p(self, shift: float) -> float:
        """Share of matchings whose absolute statistic is at least the observed one."""
        return self._share(np.abs, shift)

    def upper_p(self, shift: float) -> float:
        """Share of matchings whose statistic is at least the observed one."""
        return self._share(np.positive, shift)

    def lower_p(self, shift: float) -> float:
        """Share of matchings whose statistic is at most the observed one."""
        return self._share(np.negative, shift)

    def two_sided(self, alpha: float, *, at: Sequence[float] = (0.0,)) -> Interval:
        """Shifts with a two-sided p above `alpha`; for those in `at` this is exactly so."""
        return Interval(self._end(self.p, -1, alpha, at), self._end(self.p, 1, alpha, at))

    def equal_tailed(self, alpha: float, *, at: Sequence[float] = ()) -> Interval:
        """Shifts with both one-sided p above `alpha / 2`; for those in `at` this is exactly so."""
        return Interval(
            self._end(self.upper_p, -1, alpha / 2, at), self._end(self.lower_p, 1, alpha / 2, at)
        )

    def _share(self, side: Callable[[FloatArray], FloatArray], shift: float) -> float:
        """Share of matchings whose statistic, seen from `side`, is at least the observed one.

        Cross-multiplied, so that a matching without any variance needs no case of its own. Ties
        are common, since gains are multiples of 1/n, and must survive rounding.
        """
        if math.isinf(shift):  # gains are negligible beside the shift
            powers, sums_Z = (0.0, 0.0, 1.0), -math.copysign(1, shift) * self.kin_sums
        else:
            further = shift - self.estimate
            powers, sums_Z = (1.0, -2 * further, further**2), self.sums - further * self.kin_sums
            rounding = 1e-12 * (self.scale + abs(shift)) * self.kin_sums[0]
            sums_Z[np.abs(sums_Z) < rounding] = 0.0
        least = LEAST_ERROR**2 * float(np.dot(powers, self.mean_square))
        variance_Z = np.maximum(
            sum(power * values_Z for power, values_Z in zip(powers, self.squares, strict=True)),
            least,
        )
        signed_Z = sums_Z * np.abs(sums_Z)
        own_Z = side(signed_Z * variance_Z[0])
        observed_Z = side(signed_Z[:1] * variance_Z)
        at_least_Z = own_Z >= observed_Z - TOLERANCE * np.abs(observed_Z)
        return float((at_least_Z | self.undefined).mean())

    def _end(
        self, p_at: Callable[[float], float], side: int, alpha: float, at: Sequence[float]
    ) -> float:
        """The shift on one side of the estimate where p falls to `alpha`, by bisection.

        p falls on both sides of the estimate but for rare small steps upwards. The search starts
        from the shifts in `at`, so that the interval and p never contradict each other there.
        """
        if p_at(side * math.inf) > alpha + TOLERANCE:
            return side * math.inf
        inside, outside = self.estimate, math.nan
        for shift in sorted(at, key=lambda shift: abs(shift - self.estimate)):
            if (shift - self.estimate) * side > 0:
                if p_at(shift) <= alpha + TOLERANCE:
                    outside = shift
                    break
                inside = shift
        precision = 1e-11 * self.scale  # above what counts as rounding in `_share`
        step = self.error if self.error > precision else self.scale
        if math.isnan(outside):
            for doubling in range(DOUBLINGS):
                outside = inside + side * step * 2**doubling
                if p_at(outside) <= alpha + TOLERANCE:
                    break
                inside = outside
        for _ in range(BISECTIONS):
            if abs(outside - inside) <= precision:
                break
            middle = (inside + outside) / 2
            if p_at(middle) <= alpha + TOLERANCE:
                outside = middle
            else:
                inside = middle
        return inside


def matching_test(design: CrossedDesign, residual_BT: FloatArray, scale: float) -> MatchingTest:
    """The test of matchings of a design, for gains without effects and covariates, [B, T].

    The statistic of a matching is its least-squares estimate over a standard error clustered by
    row, both computed for that matching: for scores u_b = k_b (y_b - estimate k_b), summed over
    targets of the residuals k of matched kinship and y of gains, the variance of sum(k y) is
    B / (B - 1) sum(u_b^2). A permutation test of such a statistic is exact where rows are
    exchangeable, and holds asymptotically where only the mean effect is zero, and effects and
    variances of rows differ (Janssen 1997; Chung and Romano, "Exact and asymptotically robust
    permutation tests", Annals of Statistics 41, 2013).

    With few rows some of the many matchings have a tiny standard error by chance. None counts as
    less than `LEAST_ERROR` of the error over all matchings. That is the same for all of them, so
    the test stays exact, and with many rows it is never reached. `scale` is the size of gains.
    """
    kin_BT = design.kin_residual
    estimate = float((residual_BT * kin_BT).sum() / (kin_BT**2).sum())
    row_sums_ZB = design.matched_rows(residual_BT - estimate * kin_BT)
    scores_ZB = design.scores(row_sums_ZB)
    kin_scores_ZB, n_rows = design.kin_scores, len(design.average)
    correction_Z = n_rows / (n_rows - 1) / design.norm**2
    sums_Z = row_sums_ZB.sum(axis=1) / design.norm
    mean_square = float((sums_Z**2).mean())
    df = (n_rows - 1) * design.rank - 1
    error = math.nan
    if df > 0:  # the estimate takes one of the degrees of freedom of the interaction
        error = math.sqrt(mean_square * (df + 1) / df) / float(design.norm[0])
    return MatchingTest(
        estimate=estimate,
        error=error,
        df=max(df, 0),
        scale=scale,
        sums=sums_Z,
        kin_sums=design.cross,
        squares=(
            (scores_ZB**2).sum(axis=1) * correction_Z,
            (scores_ZB * kin_scores_ZB).sum(axis=1) * correction_Z,
            (kin_scores_ZB**2).sum(axis=1) * correction_Z,
        ),
        mean_square=(
            mean_square,
            float(np.mean(sums_Z * design.cross)),
            float(np.mean(design.cross**2)),
        ),
        undefined=np.isinf(design.norm),
    )
