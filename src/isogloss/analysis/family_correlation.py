"""How much correlation within families the verdict of a contrast survives.

The relatives of the source are one family, and the controls of each branch are one.
"""

import math
from dataclasses import dataclass

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.gains import gains_by_measure
from isogloss.languages import language
from isogloss.stats.contrasts import Contrast
from isogloss.stats.family_correlation import breaking_correlation, intraclass_correlation
from isogloss.types import Measure, Verdict

RELATIVES = "relatives of the source"
FEWEST_PAIRS = 5  # of controls beyond one per branch, to estimate their correlation


@dataclass(frozen=True)
class FamilyCorrelation:
    """The correlation within families at which the verdict of a contrast falls.

    `falls_at` is None for an inconclusive contrast and for one that no correlation changes.
    `of_controls` is the correlation of the controls' own gains within their branches, NaN with
    fewer than five controls beyond one per branch; `control_families` counts these branches.
    """

    falls_at: float | None
    of_controls: float
    control_families: int


def family_correlation(study: AlignedStudy, contrast: Contrast) -> FamilyCorrelation:
    """The correlation at which `contrast`, that of the study's accuracy, loses its verdict."""
    families = [
        RELATIVES if related else language(code).branch
        for code, related in zip(study.codes, study.related, strict=True)
    ]
    gain_L = gains_by_measure(study.scores, study.run_weights())[Measure.ACCURACY]
    control_T = ~study.related
    of_controls = [family for family in families if family != RELATIVES]
    needed = _needed_ratio(contrast)
    return FamilyCorrelation(
        falls_at=None if needed is None else breaking_correlation(study.related, families, needed),
        of_controls=intraclass_correlation(study.in_contrast(gain_L)[control_T], of_controls)
        if len(of_controls) - len(set(of_controls)) >= FEWEST_PAIRS
        else math.nan,
        control_families=len(set(of_controls)),
    )


def _needed_ratio(contrast: Contrast) -> float | None:
    """How many times larger the variance must be for the verdict to fall; None without one."""
    estimate, test = contrast.estimate, contrast.permutation
    if contrast.verdict == Verdict.EQUIVALENT and contrast.margin is not None:
        low, high = test.interval_90
        room = [
            (contrast.margin + estimate, estimate - low),
            (contrast.margin - estimate, high - estimate),
        ]
    elif contrast.verdict in (Verdict.RELATED_GAIN_MORE, Verdict.RELATED_GAIN_LESS):
        nearest = min(test.interval_95, key=abs)
        room = [(abs(estimate), abs(estimate - nearest))]
    else:
        return None
    ratios = [(allowed / half) ** 2 for allowed, half in room if half > 0]
    return float(np.min(ratios)) if ratios else None
