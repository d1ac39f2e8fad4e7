"""Gain against genealogical distance from the source language."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from isogloss.analysis.gains import ComparisonSpec, gains_by_measure, in_contrast, run_weights
from isogloss.analysis.score_matrix import Scores
from isogloss.languages import distance
from isogloss.stats.slopes import SlopeTest, noise_free_scatter, slope_test
from isogloss.types import Group


@dataclass(frozen=True)
class DistanceTest:
    """Gain against genealogical distance from the source, in [0, 1].

    `slope` is in gain per unit of distance; `rank` the same of ranks, whose correlation is
    Spearman's and whose p is the one to read, since depths of branches are uneven.
    """

    slope: SlopeTest
    rank: SlopeTest


def distance_test(
    scores: Scores, models: Sequence[str], groups: Sequence[Group], spec: ComparisonSpec
) -> DistanceTest | None:
    """Gain against distance from the source; None if one of them is the same for all languages."""
    tested = in_contrast(groups)
    gain_T = gains_by_measure(scores, run_weights(scores, models, spec))["accuracy"][tested]
    codes = np.array(scores.languages)[tested]
    far_T = np.array([distance(spec.source, code) for code in codes])
    if np.ptp(far_T) == 0 or np.ptp(gain_T) == 0:
        return None
    tests = []
    for far, gain in ((far_T, gain_T), (stats.rankdata(far_T), stats.rankdata(gain_T))):
        of = (
            noise_free_scatter(gain, far),
            noise_free_scatter(far, far),
            noise_free_scatter(gain, gain),
        )
        tests.append(slope_test(*of, seed=spec.seed, alike=True))
    return DistanceTest(*tests)
