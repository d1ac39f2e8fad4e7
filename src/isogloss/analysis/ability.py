"""Gain and baseline on a scale of ability: log-odds of accuracy, corrected for guessing.

Near a ceiling or floor an equal gain in ability is an unequal gain in accuracy, so weak baselines
seem to gain more or less. The scale is that of an item response model with known guessing whose
items are equally difficult.
"""

from collections.abc import Sequence

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.passage_shares import PassageShares
from isogloss.types import FloatArray


def ability_shares(study: AlignedStudy, models: Sequence[str]) -> PassageShares:
    """Shares of passages in ability `before` and in its `gain`, in logits; see `passage_shares`.

    A passage's share is its part of the items times the ability, plus its deviation from the mean
    accuracy times the derivative of ability (delta method). Guessing is the accuracy of chance,
    zero where that is unknown.
    """
    scores = study.scores
    weights = study.run_weights(models)
    n_L = scores.counts.sum(axis=0)
    weight_PL = scores.counts / n_L
    before_PL, after_PL = np.zeros_like(weight_PL), np.zeros_like(weight_PL)
    for before, after, correct_N in zip(*weights, scores.correct, strict=True):
        if before or after:
            correct_PL = scores.by_passage(correct_N) / n_L
            shares_PL = _run_shares(correct_PL, weight_PL, n_L, scores.chance)
            before_PL += before * shares_PL
            after_PL += after * shares_PL
    return PassageShares(
        study.in_contrast(weight_PL),
        {
            "before": study.in_contrast(before_PL),
            "gain": study.in_contrast(after_PL - before_PL),
        },
    )


def ability(
    accuracy_L: FloatArray, n_L: FloatArray, chance: float
) -> tuple[FloatArray, FloatArray]:
    """Log-odds of accuracy beyond chance, and its derivative by accuracy, [L] each.

    Half an item is added to what is right and to what is wrong (Haldane 1956), and accuracy at or
    below chance counts as half an item; the derivative is zero there.
    """
    total_L = (1 - chance) * n_L + 1
    share_L = ((accuracy_L - chance) * n_L + 0.5) / total_L
    least_L = 0.5 / total_L
    above_L = share_L > least_L
    share_L = np.clip(share_L, least_L, 1 - least_L)
    derivative_L = np.where(above_L, n_L / total_L / (share_L * (1 - share_L)), 0.0)
    return np.log(share_L / (1 - share_L)), derivative_L


def _run_shares(
    correct_PL: FloatArray, weight_PL: FloatArray, n_L: FloatArray, chance: float | None
) -> FloatArray:
    accuracy_L = correct_PL.sum(axis=0)
    ability_L, derivative_L = ability(accuracy_L, n_L, chance or 0.0)
    deviation_PL = correct_PL - weight_PL * accuracy_L
    shares_PL: FloatArray = weight_PL * ability_L + derivative_L * deviation_PL
    return shares_PL
