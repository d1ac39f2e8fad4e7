"""Languages at the floor or at the ceiling, and the relatedness contrast without them.

They show nothing about transfer: there was no accuracy above chance, or no room above it.

Shapes are suffixes: N rows, I items of one language, L languages, T languages in the contrast.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.gains import gains_by_measure
from isogloss.errors import ComparisonError
from isogloss.stats.contrasts import Contrast, relatedness_contrast
from isogloss.stats.distributions import t_quantile
from isogloss.stats.paired import clustered_standard_error
from isogloss.types import BoolArray, FloatArray, Interval, Measure


@dataclass(frozen=True)
class InformativeContrast:
    """Related and control languages at the floor or ceiling, and the contrast without them.

    `floor` holds the codes of languages whose accuracy is not above chance, neither before nor
    after; it is None where chance is unknown. `ceiling` holds those not below 100%, neither before
    nor after. `contrast` is None where no language is left out, or where too few are left; then
    `problem` says so. `too_few_items` are those at either end whose accuracy, before or after, is
    further from it than the margin: more items might tell them apart.
    """

    floor: tuple[str, ...] | None
    ceiling: tuple[str, ...]
    contrast: Contrast | None
    too_few_items: tuple[str, ...] = ()
    problem: str = ""

    @property
    def left_out(self) -> tuple[str, ...]:
        """Languages at the floor or at the ceiling."""
        return (*(self.floor or ()), *self.ceiling)


def informative_contrast(study: AlignedStudy) -> InformativeContrast:
    """The relatedness contrast of the languages that are neither at the floor nor at the ceiling.

    A language is at the floor if the 95% intervals of its accuracy before and after both reach down
    to chance, and at the ceiling if both reach up to 1; one with varieties is if all of them are.
    Leaving languages out by their results can
    itself create a contrast, so this is a check and not a second verdict.
    """
    scores, margin = study.scores, study.spec.margin
    values = [weight_K @ scores.correct for weight_K in study.run_weights()]
    bounds_KL2 = np.array(
        [
            [accuracy_interval(value_N[rows], scores.row_passage[rows]) for rows in scores.slices]
            for value_N in values
        ]
    )
    accuracy_KL = np.array([[value_N[rows].mean() for rows in scores.slices] for value_N in values])
    ceiling_T = _all_members(study, np.all(bounds_KL2[..., 1] >= 1, axis=0))
    few_T = ceiling_T & _any_member(study, np.any(1 - accuracy_KL > margin, axis=0))
    floor_T = np.zeros(len(study.codes), dtype=bool)
    if scores.chance is not None:
        at_chance_L = np.all(bounds_KL2[..., 0] <= scores.chance, axis=0)
        floor_T = _all_members(study, at_chance_L) & ~ceiling_T
        above_L = np.any(accuracy_KL - scores.chance > margin, axis=0)
        few_T |= floor_T & _any_member(study, above_L)
    codes = np.array(study.codes)
    floor = None if scores.chance is None else tuple(codes[floor_T].tolist())
    ceiling = tuple(codes[ceiling_T].tolist())
    few = tuple(codes[few_T].tolist())
    kept_T = ~(floor_T | ceiling_T)
    if kept_T.all():
        return InformativeContrast(floor, ceiling, None)
    gain_L = gains_by_measure(scores, study.run_weights())[Measure.ACCURACY]
    try:
        contrast = relatedness_contrast(
            study.in_contrast(gain_L)[kept_T],
            study.related[kept_T],
            study.spec.margin,
            seed=study.spec.seed,
        )
    except ComparisonError as error:
        return InformativeContrast(floor, ceiling, None, few, str(error))
    return InformativeContrast(floor, ceiling, contrast, few)


def _all_members(study: AlignedStudy, true_L: BoolArray) -> BoolArray:
    """Whether it is true of every variety of a language in the contrast, [T]."""
    return np.array([true_L[list(places)].all() for places in study.members])


def _any_member(study: AlignedStudy, true_L: BoolArray) -> BoolArray:
    """Whether it is true of some variety of a language in the contrast, [T]."""
    return np.array([true_L[list(places)].any() for places in study.members])


def accuracy_interval(correct_I: FloatArray, passage_I: npt.ArrayLike) -> Interval:
    """95% interval of an accuracy, clustered by passage (Student's t); both arrays are [I].

    A single point where all answers are alike, NaN with a single passage.
    """
    accuracy = float(correct_I.mean())
    if np.ptp(correct_I) == 0:
        return Interval(accuracy, accuracy)
    degrees = len(np.unique(np.asarray(passage_I))) - 1
    if degrees == 0:
        return Interval(math.nan, math.nan)
    half = clustered_standard_error(correct_I, passage_I) * t_quantile(0.975, degrees)
    return Interval(accuracy - half, accuracy + half)
