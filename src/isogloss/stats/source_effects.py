"""The effect of kinship for each source, against those of the other sources.

Shapes are suffixes: S sources, T targets, B branches of sources, R rows that have relatives.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.errors import ComparisonError
from isogloss.stats.crossed_design import TOLERANCE, crossed_design
from isogloss.stats.distributions import t_quantile, t_upper
from isogloss.types import FloatArray, Interval


@dataclass(frozen=True)
class SourceEffect:
    """The effect of kinship for one source, and its difference from the mean of the others.

    `source` is the index of the row. `p` is the share of sources whose effect is at least as far
    from that of the others, so it cannot be below `lowest_p`, one over the number of sources with
    relatives. `interval_95`, of the difference, and `student_p` come from Student's t, with the
    other sources as a sample (n - 2 degrees of freedom): they assume that effects of sources are
    normal, which `p` does not.
    """

    source: int
    estimate: float
    others: float
    difference: float
    interval_95: Interval
    student_p: float
    p: float
    lowest_p: float


def source_effects(
    gain_ST: FloatArray,
    kin_ST: FloatArray,
    source_branch: Sequence[str],
    covariates: Mapping[str, FloatArray],
) -> tuple[SourceEffect, ...]:
    """The effect of each source that has relatives; empty with fewer than three such branches.

    Each source has its own slope on kinship, beside the effects of sources and targets. For a
    source that shares its branch with others, those are left out. Arguments as in `crossed_effect`.
    """
    slopes_of: dict[tuple[int, ...], dict[str, float]] = {}
    results = []
    for source, branch in enumerate(source_branch):
        kept = tuple(
            place for place, other in enumerate(source_branch) if place == source or other != branch
        )
        if kept not in slopes_of:
            rows = list(kept)
            slopes_of[kept] = _slopes(
                gain_ST[rows],
                kin_ST[rows],
                [source_branch[row] for row in rows],
                {name: values[rows] for name, values in covariates.items()},
            )
        effect_B = slopes_of[kept]
        if branch in effect_B and len(effect_B) >= 3:
            others = np.array([value for name, value in effect_B.items() if name != branch])
            results.append(_against_others(source, effect_B[branch], others))
    return tuple(results)


def _slopes(
    gain_ST: FloatArray,
    kin_ST: FloatArray,
    source_branch: Sequence[str],
    covariates: Mapping[str, FloatArray],
) -> dict[str, float]:
    """The slope on kinship of each branch of sources that has one; empty if not identified."""
    try:
        design = crossed_design(
            kin_ST, ~np.isnan(gain_ST), source_branch, covariates, draws=0, max_exact_branches=0
        )
    except ComparisonError:
        return {}
    kin_BT = design.average @ kin_ST
    branches = list(dict.fromkeys(source_branch))
    rows = [row for row in range(len(kin_BT)) if np.ptp(kin_BT[row][design.observed[row]]) > 0]
    columns = []
    for row in rows:
        own_BT = np.zeros_like(kin_BT)
        own_BT[row] = kin_BT[row]
        columns.append(design.residual(own_BT)[design.observed])
    design_NR = np.column_stack(columns)
    if np.linalg.matrix_rank(design_NR, tol=1e-6) < len(rows):
        return {}
    residual_BT = design.gain_residual(gain_ST)
    slopes = np.linalg.lstsq(design_NR, residual_BT[design.observed], rcond=None)[0]
    return {branches[row]: float(slope) for row, slope in zip(rows, slopes, strict=True)}


def _against_others(source: int, own: float, other_R: FloatArray) -> SourceEffect:
    effect_R = np.append(other_R, own)
    n = len(effect_R)
    deviation_R = effect_R - effect_R.mean()
    # Effects that are equal but for rounding are equal.
    deviation_R[np.abs(deviation_R) < TOLERANCE * np.abs(effect_R).max()] = 0.0
    distance_R = np.abs(deviation_R)
    difference = float(deviation_R[-1] - deviation_R[:-1].mean())
    error = float(deviation_R[:-1].std(ddof=1)) * math.sqrt(1 + 1 / (n - 1))
    half = error * t_quantile(0.975, n - 2)
    return SourceEffect(
        source=source,
        estimate=own,
        others=float(other_R.mean()),
        difference=difference,
        interval_95=Interval(difference - half, difference + half),
        student_p=(
            2 * t_upper(abs(difference) / error, n - 2) if error else float(difference == 0)
        ),
        p=float((distance_R >= distance_R[-1] * (1 - 1e-9)).mean()),
        lowest_p=1 / n,
    )
