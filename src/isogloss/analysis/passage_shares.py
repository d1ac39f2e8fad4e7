"""Shares of passages in accuracies and gains, which cross-fitted slopes are computed from."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from isogloss.analysis.gains import ComparisonSpec, run_weights
from isogloss.analysis.score_matrix import Scores
from isogloss.types import BoolArray, FloatArray


class PassageShares:
    """Passages' shares in what languages (or models) score, [P, U] each; see `slopes.scatter`."""

    def __init__(self, weight: FloatArray, **values: FloatArray) -> None:
        self.weight, self.values = weight, values

    def over_languages(self) -> "PassageShares":
        """The same of the mean over languages, [P, 1]."""
        return PassageShares(
            self.weight.mean(axis=1, keepdims=True),
            **{name: each.mean(axis=1, keepdims=True) for name, each in self.values.items()},
        )

    @staticmethod
    def side_by_side(parts: Sequence["PassageShares"]) -> "PassageShares":
        """Several models as units beside one another."""
        return PassageShares(
            np.hstack([part.weight for part in parts]),
            **{name: np.hstack([part.values[name] for part in parts]) for name in parts[0].values},
        )


def passage_shares(
    scores: Scores,
    models: Sequence[str],
    tested: BoolArray,
    spec: ComparisonSpec,
    against: str | None = None,
    condition: str | None = None,
) -> PassageShares:
    """PassageShares in accuracy `before` and in the `gain`, on average over models."""
    if against is not None:
        spec = replace(spec, against=against)
    sides = run_weights(scores, models, spec, condition)
    count_PT = scores.counts[:, tested]
    n_T = count_PT.sum(axis=0)
    before_PT, after_PT = (
        scores.by_passage(side @ scores.correct)[:, tested] for side in (sides.before, sides.after)
    )
    return PassageShares(count_PT / n_T, before=before_PT / n_T, gain=(after_PT - before_PT) / n_T)
