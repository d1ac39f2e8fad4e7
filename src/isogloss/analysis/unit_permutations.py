"""The relatedness contrast with languages, branches or families as the units that are permuted.

Languages of a branch, or of a family, tend to gain together. A permutation of single languages
takes them as independent; one of whole branches or families does not.

Shapes are suffixes: T languages in the contrast (related and control), U units.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.gains import gains_by_measure
from isogloss.languages import language
from isogloss.stats.contrasts import Contrast
from isogloss.stats.permutation import permutation_test
from isogloss.types import BoolArray, FloatArray, Interval, Measure


class PermutedUnit(StrEnum):
    """What a permutation keeps together."""

    LANGUAGE = "language"
    BRANCH = "branch"
    FAMILY = "family"


@dataclass(frozen=True)
class UnitPermutation:
    """Mean gain of related units minus that of control units, each unit counting once; fractions.

    `lowest_p` is the lowest p that this number of units allows. `interval` is the
    95% permutation interval, infinite where there are too few units.
    """

    unit: PermutedUnit
    n_related: int
    n_control: int
    estimate: float
    p: float
    lowest_p: float
    interval: Interval


@dataclass(frozen=True)
class UnitPermutations:
    """The test of the relatedness contrast for each unit that has at least two control units.

    `alone` are the codes of languages that have no other of their family in the contrast.
    """

    rows: tuple[UnitPermutation, ...]
    alone: tuple[str, ...]

    def row(self, unit: PermutedUnit) -> UnitPermutation | None:
        """The test with that unit, None where there are too few of it."""
        return next((row for row in self.rows if row.unit == unit), None)


def unit_permutations(study: AlignedStudy, contrast: Contrast) -> UnitPermutations:
    """Permute languages (as in `contrast`), whole branches and whole families.

    A unit's gain is the mean of its languages, and the test is `permutation_test` over units: the
    permutation of clusters, which holds for any correlation within them as long as their means are
    exchangeable. A family, or branch, that has both related and control languages counts as two
    units. Means of larger units vary less, so the test is conservative where the related unit is
    larger than most, and liberal where it is smaller.
    """
    gain_L = gains_by_measure(study.scores, study.run_weights())[Measure.ACCURACY]
    gain_T = study.in_contrast(gain_L)
    test = contrast.permutation
    rows = [
        UnitPermutation(
            PermutedUnit.LANGUAGE,
            contrast.n_related,
            contrast.n_control,
            contrast.estimate,
            test.p,
            min(1.0, 2 / test.relabellings),
            test.interval_95,
        )
    ]
    entries = [language(code) for code in study.codes]
    for unit, names in (
        (PermutedUnit.BRANCH, [entry.branch for entry in entries]),
        (PermutedUnit.FAMILY, [entry.family for entry in entries]),
    ):
        gain_U, related_U = _unit_means(gain_T, study.related, names)
        if (~related_U).sum() >= 2:
            rows.append(_permute(unit, gain_U, related_U, study.spec.seed))
    families = [entry.family for entry in entries]
    return UnitPermutations(
        tuple(rows),
        alone=tuple(
            code
            for code, family in zip(study.codes, families, strict=True)
            if families.count(family) == 1
        ),
    )


def _unit_means(
    gain_T: FloatArray, related_T: BoolArray, names: list[str]
) -> tuple[FloatArray, BoolArray]:
    """The mean gain of each unit, [U], and whether it is related; related languages come apart."""
    keys = list(zip(names, related_T.tolist(), strict=True))
    units = list(dict.fromkeys(keys))
    mean_U = [gain_T[[key == unit for key in keys]].mean() for unit in units]
    return np.array(mean_U), np.array([related for _, related in units])


def _permute(
    unit: PermutedUnit, gain_U: FloatArray, related_U: BoolArray, seed: int
) -> UnitPermutation:
    test = permutation_test(gain_U, related_U, seed=seed)
    return UnitPermutation(
        unit,
        n_related=int(related_U.sum()),
        n_control=int((~related_U).sum()),
        estimate=float(gain_U[related_U].mean() - gain_U[~related_U].mean()),
        p=test.p,
        lowest_p=min(1.0, 2 / test.relabellings),
        interval=test.interval_95,
    )
