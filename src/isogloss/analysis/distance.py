"""Gain against genealogical distance from the source language.

Shapes are suffixes: T languages in the contrast (related and control).
"""

from dataclasses import dataclass

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.gains import gains_by_measure
from isogloss.languages import source_distance
from isogloss.stats.distributions import ranks
from isogloss.stats.slopes import SlopeTest, noise_free_scatter, slope_test
from isogloss.types import FloatArray, Measure

ROUNDING = 12  # decimals of a gain; differences beyond them would rank equal gains


@dataclass(frozen=True)
class DistanceTest:
    """Gain against genealogical distance from the source, in [0, 1].

    `slope` is in gain per unit of distance. `rank` is the slope of ranks, whose correlation is
    Spearman's; its p is the one to read, since branches differ in depth.
    """

    slope: SlopeTest
    rank: SlopeTest


def distance_test(study: AlignedStudy) -> DistanceTest | None:
    """Gain against distance; None if the gain or the distance is the same in all languages."""
    gain_L = gains_by_measure(study.scores, study.run_weights())[Measure.ACCURACY]
    gain_T = study.in_contrast(gain_L).round(ROUNDING)
    source, languages = study.spec.source, study.scores.languages
    distance_T = study.in_contrast(np.array([source_distance(source, code) for code in languages]))
    if np.ptp(distance_T) == 0 or np.ptp(gain_T) == 0:
        return None

    def regress(x_T: FloatArray, y_T: FloatArray) -> SlopeTest:
        # A permutation test of the correlation: distance is known without noise.
        return slope_test(
            yx=noise_free_scatter(y_T, x_T),
            xx=noise_free_scatter(x_T, x_T),
            yy=noise_free_scatter(y_T, y_T),
            seed=study.spec.seed,
            studentized=False,
        )

    return DistanceTest(
        slope=regress(distance_T, gain_T),
        rank=regress(ranks(distance_T), ranks(gain_T)),
    )
