"""Early stopping: dev scores by step, the best of them, and when patience ends a training."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from isogloss.predictions.table import Prediction


class DevScore(NamedTuple):
    """Accuracy (a fraction) and mean log-probability of the right option (nats) on dev items.

    Scores compare by accuracy first and by log-probability second; larger is better.
    """

    accuracy: float
    gold_logprob: float


def dev_score(predictions: Sequence[Prediction]) -> DevScore:
    """The score of one measurement."""
    return DevScore(
        float(np.mean([prediction.correct for prediction in predictions])),
        float(np.mean([prediction.gold_logprob for prediction in predictions])),
    )


def best_step(dev: Mapping[int, DevScore]) -> int:
    """The step with the best score, the earliest of equals; step 0 (no training) is left out."""
    return max((step for step in dev if step > 0), key=lambda step: (dev[step], -step))


def patience_exhausted(dev: Mapping[int, DevScore], patience: int | None) -> bool:
    """Whether `patience` measurements or more follow the best one; never if it is None."""
    if patience is None or max(dev) == 0:
        return False
    best = best_step(dev)
    return sum(step > best for step in dev) >= patience
