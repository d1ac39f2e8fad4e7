"""Gain and baseline on a scale of ability, from an item response model of each model's answers.

Near a ceiling or floor an equal gain in ability is an unequal gain in accuracy, so weak baselines
seem to gain more or less, and relatives with weak baselines seem to have an advantage or none.
"""

from collections.abc import Sequence

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.passage_shares import PassageShares


def ability_shares(study: AlignedStudy, models: Sequence[str]) -> PassageShares:
    """Shares of passages in ability `before` and in its `gain`, in logits; see `passage_shares`.

    A passage's share is its part of the items times the ability, plus what its answers add to it
    beyond that part (the delta method).
    """
    scores = study.scores
    weights = study.run_weights(models)
    weight_PL = scores.counts / scores.counts.sum(axis=0)
    before_PL, after_PL = np.zeros_like(weight_PL), np.zeros_like(weight_PL)
    runs = zip(*weights, scores.abilities.ability, scores.abilities.influence, strict=True)
    for before, after, ability_L, influence_N in runs:
        if before or after:
            added_PL = scores.by_passage(influence_N)
            shares_PL = weight_PL * (ability_L - added_PL.sum(axis=0)) + added_PL
            before_PL += before * shares_PL
            after_PL += after * shares_PL
    return PassageShares(
        study.in_contrast(weight_PL),
        {
            "before": study.in_contrast(before_PL),
            "gain": study.in_contrast(after_PL - before_PL),
        },
    )
