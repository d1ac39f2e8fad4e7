"""Shares of passages in accuracies and gains, which cross-fitting computes slopes from.

Shapes are suffixes: P passages, U units (languages, or models), T languages in the contrast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.types import Condition, FloatArray


@dataclass(frozen=True)
class PassageShares:
    """What each passage contributes to each unit's scores, [P, U]; see `stats.slopes.scatter`.

    `weight` is the share of a unit's items that are on the passage (columns sum to 1); the columns
    of each array in `scores` sum to the unit's score.
    """

    weight: FloatArray
    scores: Mapping[str, FloatArray]

    def totals(self, name: str) -> FloatArray:
        """The score of each unit, [U]."""
        totals_U: FloatArray = self.scores[name].sum(axis=0)
        return totals_U

    def mean_over_units(self) -> "PassageShares":
        """The same for the mean over units, [P, 1]."""
        return PassageShares(
            self.weight.mean(axis=1, keepdims=True),
            {name: share.mean(axis=1, keepdims=True) for name, share in self.scores.items()},
        )


def side_by_side(parts: Sequence[PassageShares]) -> PassageShares:
    """Units of several shares (models) as the units of one."""
    return PassageShares(
        np.hstack([part.weight for part in parts]),
        {name: np.hstack([part.scores[name] for part in parts]) for name in parts[0].scores},
    )


def passage_shares(
    study: AlignedStudy,
    models: Sequence[str],
    condition: Condition | None = None,
    against: Condition | None = None,
) -> PassageShares:
    """Shares in accuracy `before` and in the `gain`, averaged over models; units are languages.

    Conditions are those of the study by default.
    """
    scores = study.scores
    weights = study.run_weights(models, condition, against)
    n_L = scores.counts.sum(axis=0)
    before_PL, after_PL = (
        scores.by_passage(weight_K @ scores.correct) / n_L for weight_K in weights
    )
    return PassageShares(
        study.in_contrast(scores.counts / n_L),
        {
            "before": study.in_contrast(before_PL),
            "gain": study.in_contrast(after_PL - before_PL),
        },
    )
