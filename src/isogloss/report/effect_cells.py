"""Cells of a table of effects of kinship, in points or in the unit of a scale."""

import math

from isogloss.formatting import decimal, interval_text
from isogloss.report.table import p_text
from isogloss.stats.crossed import CrossedEffect
from isogloss.types import Interval

EFFECT_HEADINGS = (
    *("Effect", "95% interval", "p", "90% interval", "p, equivalence", "Verdict"),
    *("Minimum detectable effect", "95% interval, robust"),
)


def effect_cells(
    effect: CrossedEffect, verdict: str = "", *, scale: float = 100.0, digits: int = 1
) -> list[str]:
    """An effect in points, or in its own unit with a `scale` of 1."""
    tost_p = math.nan if effect.equivalence_p is None else effect.equivalence_p
    return [
        decimal(scale * effect.estimate, digits),
        bounds(effect.interval_95, scale, digits),
        p_text(effect.p),
        bounds(effect.interval_90, scale, digits),
        p_text(tost_p),
        verdict,
        detectable_text(effect, scale, digits),
        interval_text(_scaled(effect.robust, scale), digits),
    ]


def bounds(interval: Interval, scale: float = 100.0, digits: int = 1) -> str:
    """An interval; `none` where there are too few matchings for one."""
    if math.isinf(interval.low) and math.isinf(interval.high):
        return "none"
    return interval_text(_scaled(interval, scale), digits)


def _scaled(interval: Interval, scale: float) -> Interval:
    return Interval(*(scale * end for end in interval))


def detectable_text(effect: CrossedEffect, scale: float = 100.0, digits: int = 1) -> str:
    """The minimum detectable effect; `none` where no effect, however large, can be found."""
    detectable = scale * effect.minimum_detectable
    return decimal(detectable, digits, signed=False) if math.isfinite(detectable) else "none"
