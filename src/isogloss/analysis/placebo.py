"""Placebo branches: the contrast with other branches in the place of the relatives of the source.

Shapes are suffixes: T languages in the contrast (related and control).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.gains import gains_by_measure
from isogloss.languages import language, source_branch
from isogloss.stats.contrasts import Contrast
from isogloss.stats.permutation import ALPHA, permutation_test
from isogloss.types import BoolArray, FloatArray, Interval, Measure

FEWEST_TARGETS = 3  # of a placebo branch
RELABELLINGS = 9_999  # of each placebo branch, where not all are counted


@dataclass(frozen=True)
class PlaceboBranch:
    """The mean gain of a branch minus that of all other languages in the contrast, as a fraction.

    `interval` is the 95% permutation interval. `is_source` marks the relatives of the source, whose
    estimate, p and interval are those of the relatedness contrast.
    """

    branch: str
    languages: tuple[str, ...]
    estimate: float
    p: float
    interval: Interval
    is_source: bool = False


@dataclass(frozen=True)
class PlaceboBranches:
    """The contrast of every branch, ordered by estimate, largest first.

    `rank` is the place of the source's relatives by size of the difference in either direction: 1
    if no branch differs more from the other languages. Branches that differ as much come before
    them. `n` counts the branches, the relatives of the source among them; `rank / n` is a
    placebo p (Abadie, Diamond and Hainmueller 2010). It is 1 of 1 where there is no other branch.
    """

    rows: tuple[PlaceboBranch, ...]
    rank: int
    n: int

    @property
    def source(self) -> PlaceboBranch:
        """The relatives of the source."""
        return next(row for row in self.rows if row.is_source)

    @property
    def others(self) -> tuple[PlaceboBranch, ...]:
        """The placebo branches."""
        return tuple(row for row in self.rows if not row.is_source)

    @property
    def n_significant(self) -> int:
        """How many of all branches have p at most 0.05."""
        return sum(row.p <= ALPHA for row in self.rows)


def placebo_branches(study: AlignedStudy, contrast: Contrast) -> PlaceboBranches:
    """The contrast of accuracy for every other branch of at least three targets.

    The languages are always those of the relatedness `contrast`: the source and its varieties stay
    left out, and its relatives are among the controls of other branches. So all contrasts ask one
    question of the same gains, and none of the other branches had anything to do with the source.
    """
    gain_L = gains_by_measure(study.scores, study.run_weights())[Measure.ACCURACY]
    gain_T = study.in_contrast(gain_L)
    own = PlaceboBranch(
        study.spec.branch or source_branch(study.spec.source),
        tuple(np.array(study.codes)[study.related].tolist()),
        contrast.estimate,
        contrast.permutation.p,
        contrast.permutation.interval_95,
        is_source=True,
    )
    rows = [own, *_others(study, gain_T)]
    # Gains are multiples of 1/n, so exact ties are common and must survive rounding.
    size = abs(own.estimate) * (1 - 1e-9) - 1e-12
    return PlaceboBranches(
        rows=tuple(sorted(rows, key=lambda row: (-row.estimate, row.branch))),
        rank=sum(abs(row.estimate) >= size for row in rows),
        n=len(rows),
    )


def _others(study: AlignedStudy, gain_T: FloatArray) -> Iterator[PlaceboBranch]:
    """Branches of the controls; one that the relatives of the source have a part of is no other."""
    of_branch: dict[str, list[str]] = defaultdict(list)
    related_branches = set()
    for code, related in zip(study.codes, study.related, strict=True):
        branch = language(code).branch
        of_branch[branch].append(code)
        if related:
            related_branches.add(branch)
    for branch, codes in of_branch.items():
        if branch in related_branches or len(codes) < FEWEST_TARGETS:
            continue
        member_T = np.isin(study.codes, codes)
        test = permutation_test(gain_T, member_T, seed=study.spec.seed, relabellings=RELABELLINGS)
        yield PlaceboBranch(
            branch, tuple(codes), _difference(gain_T, member_T), test.p, test.interval_95
        )


def _difference(gain_T: FloatArray, member_T: BoolArray) -> float:
    return float(gain_T[member_T].mean() - gain_T[~member_T].mean())
