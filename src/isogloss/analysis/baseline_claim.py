"""What the claim on weak and strong models (C2) says beyond the slope of gain on baseline.

Weak models are said to gain in every language, whatever the family, and strong ones only little.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gain_slopes import FEWEST_MODELS
from isogloss.analysis.gains import ConditionGains
from isogloss.analysis.learning import Learning
from isogloss.languages import language
from isogloss.stats.family_correlation import family_difference_p
from isogloss.stats.paired import holm
from isogloss.stats.permutation import ALPHA
from isogloss.types import Group


@dataclass(frozen=True)
class BaselineClaim:
    """Gains of weak models by language and family, and gains of strong models.

    `weak` are the models below the median baseline, `strong` those above it; with fewer than five
    models all are in `weak`. `every_language` holds if p is at most 0.05 in all `languages` (no
    adjustment, since all must be); `gained` and `lost` are counted with Holm's adjustment.
    `family_p` tests whether mean gains of weak models differ between families, NaN where none has
    two languages. `strong_within` and `strong_beyond` say whether every strong model's mean gain is
    within the margin, and whether some model's is beyond it.
    """

    weak: tuple[str, ...]
    strong: tuple[str, ...]
    every_language: bool
    gained: int
    lost: int
    languages: int
    family_p: float
    families: int
    strong_within: bool
    strong_beyond: bool


def baseline_claim(comparison: Comparison) -> BaselineClaim:
    """The parts of C2 that the slope on the baseline does not test."""
    weak, strong = _weak_and_strong(comparison.model_learning)
    gains = [model for model in comparison.models if model.label in {each.label for each in weak}]
    rows = [row for model in gains for row in model.languages]
    holm_p = holm([row.p for row in rows])
    value, family = _by_language(gains)
    beyond = holm([each.gain.p_beyond(comparison.margin) for each in strong])
    return BaselineClaim(
        weak=tuple(each.label for each in weak),
        strong=tuple(each.label for each in strong),
        every_language=all(row.gain > 0 and row.p <= ALPHA for row in rows),
        gained=sum(bool(row.gain > 0 and p <= ALPHA) for row, p in zip(rows, holm_p, strict=True)),
        lost=sum(bool(row.gain < 0 and p <= ALPHA) for row, p in zip(rows, holm_p, strict=True)),
        languages=len(rows),
        family_p=family_difference_p(np.array(value), family),
        families=len(set(family)),
        strong_within=bool(strong)
        and all(each.gain.p_within(comparison.margin) <= ALPHA for each in strong),
        strong_beyond=any(p <= ALPHA for p in beyond),
    )


def _weak_and_strong(models: Sequence[Learning]) -> tuple[list[Learning], list[Learning]]:
    if len(models) < FEWEST_MODELS:
        return list(models), []
    middle = float(np.median([model.before.estimate for model in models]))
    weak = [model for model in models if model.before.estimate < middle]
    strong = [model for model in models if model.before.estimate > middle]
    return weak or list(models), strong


def _by_language(models: Sequence[ConditionGains]) -> tuple[list[float], list[str]]:
    """Mean gain and family of each language in the contrast, varieties counted once."""
    gains: dict[str, list[float]] = {}
    for model in models:
        for row in model.languages:
            if row.group in (Group.RELATED, Group.CONTROL):
                gains.setdefault(language(row.code).variety_of or row.code, []).append(row.gain)
    return [float(np.mean(own)) for own in gains.values()], [
        language(code).family for code in gains
    ]
