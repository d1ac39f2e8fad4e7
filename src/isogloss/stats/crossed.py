"""The effect of kinship in a crossed design: several sources, each evaluated on the same targets.

Gains are y_st = alpha_s + tau_t + delta kin(s, t) + error. The effect tau_t of a target (its
resources, script, headroom, family) is the same for every source and cancels; delta is what a
target gains from a related source beyond that. Shapes are suffixes: S sources, T targets,
B branches of sources, Z matchings.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.errors import ComparisonError, ConfigError
from isogloss.stats.crossed_design import (
    TOLERANCE,
    CrossedDesign,
    covariate_slopes,
    crossed_design,
)
from isogloss.stats.distributions import t_quantile, t_upper
from isogloss.stats.matchings import matching_test
from isogloss.stats.power import detectable_by_t
from isogloss.stats.source_effects import SourceEffect, source_effects
from isogloss.types import FloatArray, Interval, Verdict

ALPHA = 0.05


@dataclass(frozen=True)
class CrossedEffect:
    """The effect of kinship on gains, in their unit per unit of kinship.

    `p` is two-sided, `interval_95` holds the effects with p > 0.05, and `interval_90` those that
    neither of two one-sided tests rejects at 5%. `matchings` counts the different ways to match
    sources with branches (all of them if `exact`); `lowest_p` is the lowest p, one-sided or
    two-sided, that they allow. `robust` and `robust_90` are a 95% and a 90% interval from standard
    errors clustered by source and by target. `margin` and `equivalence_p`, the largest p of the
    one-sided tests against it of both kinds, are None without a margin. `n_sources` and `n_targets`
    count those with an observed cell, `n_branches` the rows that are permuted, of which
    `n_related_branches` have a relative among the targets. `slopes` are the coefficients of the
    covariates, in units of gain per unit of each. `by_source` compares each source's own effect
    with those of the others.
    """

    estimate: float
    p: float
    interval_95: Interval
    interval_90: Interval
    matchings: int
    exact: bool
    lowest_p: float
    standard_error: float
    robust: Interval
    robust_90: Interval
    margin: float | None
    equivalence_p: float | None
    minimum_detectable: float
    verdict: Verdict
    n_sources: int
    n_branches: int
    n_related_branches: int
    n_targets: int
    n_cells: int
    slopes: Mapping[str, float]
    by_source: tuple[SourceEffect, ...]


def crossed_effect(
    gain_ST: npt.ArrayLike,
    kin_ST: npt.ArrayLike,
    source_branch: Sequence[str],
    margin: float | None = None,
    *,
    covariates: Mapping[str, npt.ArrayLike] | None = None,
    seed: int = 0,
) -> CrossedEffect:
    """The effect of `kin_ST` on `gain_ST`, tested by permuting which source has which relatives.

    `gain_ST` [S, T] is in any unit, NaN where a cell is missing or left out (a source itself and
    its varieties). `kin_ST` [S, T] is 1 where the target is related to the source and 0 elsewhere,
    or a degree of kinship. `source_branch` [S] names the branch of each source. `covariates` are
    arrays [S, T] that are held equal (see `crossed_design`). `margin`, in the unit of the gains, is
    the smallest effect that matters. `seed` is used beyond 8 branches of sources.

    The estimate is that of least squares with an effect for each source and each target. The test
    matches the rows of gains with the rows of kinship in every other order, as in the quadratic
    assignment procedure (Hubert 1987), and compares the absolute estimate over its standard error
    (see `matching_test`). A row is everything that one source did to all targets, so the test stays
    exact when targets of a branch gain alike, also when they gain alike from one source and not
    from another. Sources of one branch are averaged first: their adapters may resemble each other
    too.

    The null hypothesis is that kinship makes no difference on average over sources. The test is
    exact where rows are exchangeable, so that kinship makes none for any of them. It is valid
    asymptotically where kinship helps from some sources and harms from others: in simulations of
    six sources whose effects have a standard deviation of 2.7 points, 6.6% of studies find one.

    A shift d is inside the 95% interval if the test of `gain - d * kin` has p > 0.05.

    The verdict is `equivalent` if both 90% intervals, that of the test and the robust one, lie
    within plus or minus `margin`. Where effects in points differ between few sources, the test
    alone claims it in 6 to 7% of studies whose effect is the margin. Else the verdict is
    `related gain more` or `related gain less` if the 95% interval excludes zero, or `inconclusive`.
    With fewer than four branches of sources no p is below 0.05.

    Raises ComparisonError if a gain is infinite, if there are fewer than two branches of sources,
    if a branch of sources has no gain, or if kinship cannot be told from the effects and
    covariates; ConfigError if the margin is not
    positive.
    """
    gain, kin = np.asarray(gain_ST, dtype=np.float64), np.asarray(kin_ST, dtype=np.float64)
    arrays = {name: np.asarray(values, float) for name, values in (covariates or {}).items()}
    _check(gain, kin, source_branch, margin, arrays)
    observed_ST = ~np.isnan(gain)
    design = crossed_design(kin, observed_ST, source_branch, arrays, seed=seed)
    effect = effect_in_design(design, gain, margin)
    shifted_BT = design.average @ (np.nan_to_num(gain) - effect.estimate * kin)
    related_BT = (design.average @ kin != 0) & design.observed
    return CrossedEffect(
        **effect._asdict(),
        matchings=design.matchings,
        exact=design.exact,
        lowest_p=1 / design.matchings,
        margin=margin,
        n_sources=int(observed_ST.any(axis=1).sum()),
        n_branches=len(design.average),
        n_related_branches=int(related_BT.any(axis=1).sum()),
        n_targets=int(observed_ST.any(axis=0).sum()),
        n_cells=int(observed_ST.sum()),
        slopes=covariate_slopes(design, shifted_BT, arrays),
        by_source=source_effects(gain, kin, source_branch, arrays),
    )


class DesignEffect(NamedTuple):
    """The fields of `CrossedEffect` that depend on the gains of a design."""

    estimate: float
    p: float
    interval_95: Interval
    interval_90: Interval
    standard_error: float
    robust: Interval
    robust_90: Interval
    equivalence_p: float | None
    minimum_detectable: float
    verdict: Verdict


def effect_in_design(
    design: CrossedDesign, gain_ST: FloatArray, margin: float | None
) -> DesignEffect:
    """The effect of kinship on `gain_ST`, [S, T], in a design that is used for several gains."""
    gain_BT = design.average @ np.nan_to_num(gain_ST)
    residual_BT = design.gain_residual(gain_ST)
    scale = max(float(np.abs(gain_BT[design.observed]).max()), np.finfo(float).tiny)
    test = matching_test(design, residual_BT, scale)
    robust_error, df = _robust_error(design, residual_BT, test.estimate)
    robust, robust_90 = (
        Interval(test.estimate - half, test.estimate + half)
        for half in (robust_error * -t_quantile(alpha / 2, df) for alpha in (ALPHA, 2 * ALPHA))
    )
    p = test.p(0.0)
    equivalence_p: float | None = None
    if margin is not None:
        equivalence_p = max(
            test.upper_p(-margin),
            test.lower_p(margin),
            _robust_p_within(test.estimate, robust_error, df, margin),
        )
    level = math.floor(design.matchings * ALPHA + TOLERANCE) / design.matchings
    rows_df = len(design.average) - 1
    return DesignEffect(
        estimate=test.estimate,
        p=p,
        interval_95=test.two_sided(ALPHA),
        interval_90=test.equal_tailed(2 * ALPHA, at=() if margin is None else (-margin, margin)),
        standard_error=test.error,
        robust=robust,
        robust_90=robust_90,
        equivalence_p=equivalence_p,
        minimum_detectable=(
            detectable_by_t(test.error, rows_df, level) if test.df > 0 else math.inf
        ),
        verdict=_verdict(test.estimate, p, equivalence_p),
    )


def _robust_error(
    design: CrossedDesign, residual_BT: FloatArray, estimate: float
) -> tuple[float, int]:
    """Standard error clustered by row and by target (Cameron, Gelbach and Miller 2011), and its df.

    Each of the three terms has the small-sample factor G/(G-1) (N-1)/(N-K), as in statsmodels;
    degrees of freedom are one fewer than the smaller number of clusters. The larger of the one-way
    variances replaces a combination that is not positive. Infinite with too few cells.
    """
    kin_BT, observed_BT = design.kin_residual, design.observed
    score_BT = kin_BT * (residual_BT - estimate * kin_BT)
    n_cells, n_parameters = design.basis.shape[0], design.basis.shape[1] + 1
    clusters = [int(observed_BT.any(axis=axis).sum()) for axis in (1, 0)]
    if n_cells <= n_parameters:
        return math.inf, min(clusters) - 1
    shared = (n_cells - 1) / (n_cells - n_parameters)
    by_row, by_target = (
        float((score_BT.sum(axis=axis) ** 2).sum()) * shared * n / (n - 1)
        for axis, n in zip((1, 0), clusters, strict=True)
    )
    by_cell = float((score_BT**2).sum()) * n_cells / (n_cells - n_parameters)
    variance = by_row + by_target - by_cell
    if variance <= 0:
        variance = max(by_row, by_target)
    return math.sqrt(variance) / float((kin_BT**2).sum()), min(clusters) - 1


def _robust_p_within(estimate: float, error: float, df: int, margin: float) -> float:
    """The larger p of two one-sided t tests against -margin and +margin (Schuirmann 1987)."""
    room = margin - abs(estimate)
    return t_upper(room / error, df) if error > 0 else float(room <= 0)


def _verdict(estimate: float, p: float, equivalence_p: float | None) -> Verdict:
    # As the 90% interval within the margin, but an end that ties with the margin is not within it.
    if equivalence_p is not None and equivalence_p <= ALPHA + TOLERANCE:
        return Verdict.EQUIVALENT
    if p <= ALPHA + TOLERANCE:
        return Verdict.RELATED_GAIN_MORE if estimate > 0 else Verdict.RELATED_GAIN_LESS
    return Verdict.INCONCLUSIVE


def _check(
    gain_ST: FloatArray,
    kin_ST: FloatArray,
    source_branch: Sequence[str],
    margin: float | None,
    covariates: Mapping[str, FloatArray],
) -> None:
    """ComparisonError or ConfigError for arrays or a margin that cannot be used."""
    if np.isinf(gain_ST).any():
        raise ComparisonError("gains must be finite or missing, but one is infinite.")
    for name, values_ST in {"kinship": kin_ST, **covariates}.items():
        if values_ST.shape != gain_ST.shape or not np.isfinite(values_ST).all():
            raise ComparisonError(
                f"{name} must be finite in every cell of {gain_ST.shape[0]} sources and "
                f"{gain_ST.shape[1]} targets, but it is not."
            )
    if margin is not None and not 0 < margin < math.inf:
        raise ConfigError(f"`margin` must be positive but got {margin}.")
    if len(source_branch) != len(gain_ST):
        raise ComparisonError(
            f"each of the {len(gain_ST)} sources needs its branch, but there are "
            f"{len(source_branch)} branches."
        )
    n_branches = len(set(source_branch))
    if n_branches < 2:
        raise ComparisonError(
            f"a crossed design needs sources of at least 2 branches, but got {n_branches}."
        )
