"""Kinship and weak baselines on a scale of ability, in sentences; no verdict rests on them."""

import math

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gain_slopes import GainSlope
from isogloss.formatting import decimal, interval_text, p_value
from isogloss.types import Measure


def kinship_in_ability(comparison: Comparison) -> list[str]:
    """The effect of kinship over all sources, or the contrast of one; empty without one."""
    if comparison.decisive:
        effect = comparison.decisive.ability
        if effect is None:
            return []
        estimate, interval, p = effect.estimate, effect.interval_95, effect.p
    else:
        contrast = comparison.overall.contrasts[Measure.ABILITY]
        test = contrast.permutation
        estimate, interval, p = contrast.estimate, test.interval_95, test.p
    known = not all(map(math.isinf, interval))
    evidence = f"95% interval {interval_text(interval, 2)}" if known else "no 95% interval"
    return [
        f"Described, without a verdict. {_scale(comparison)}: {decimal(estimate, 2)} logits "
        f"({evidence}, p {p_value(p)})."
    ]


def slope_in_ability(comparison: Comparison) -> list[str]:
    """The slope on a scale on which an equal gain near a ceiling is equal."""
    if not comparison.ability_slopes:
        return []
    slope = comparison.ability_slopes[-1]
    scale = _scale(comparison)
    if not slope.test.bounded:
        return [f"{scale}: no slope over {slope_units(slope)}, since they vary no more than noise."]
    excludes = slope.test.interval.excludes(0.0)
    way = "more" if slope.test.slope < 0 else "less"
    shown = f"weaker baselines gain {way}" if excludes else "no relation is shown"
    return [
        f"{scale}: {shown}; {decimal(slope.test.slope, 2)} logits per logit over "
        f"{slope_units(slope)} (95% interval {interval_text(slope.test.interval, 2)}, p "
        f"{p_value(slope.test.p)})."
    ]


def slope_units(slope: GainSlope) -> str:
    """How many languages or models a slope is over."""
    names = slope.units.replace("languages", "related and control languages")
    return f"{slope.test.n_units} {names}"


def _scale(comparison: Comparison) -> str:
    guessing = "known" if comparison.chance is not None else "unknown and taken as none"
    return f"On a scale of ability (item response model, guessing {guessing}, items shared)"
