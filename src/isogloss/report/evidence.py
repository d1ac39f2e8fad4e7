"""Interval and p of a contrast in words, without an interval what it lacks; and its margin."""

import math

from isogloss.analysis.comparison import Comparison
from isogloss.formatting import interval_points, p_value, points
from isogloss.stats.contrasts import Contrast
from isogloss.types import Interval

# A two-sided permutation test at 5% (and 10%) needs as many relabellings.
NEEDED = {95: 40, 90: 20}
# With fewer languages in a group Welch's test is not shown: its level is far from 5%.
FEWEST_FOR_WELCH = 4


def contrast_interval(contrast: Contrast, level: int = 95) -> str:
    """The permutation interval at 95% or 90% in points, or `none`."""
    interval = _interval(contrast, level)
    return interval_points(interval) if math.isfinite(interval.low) else "none"


def contrast_evidence(contrast: Contrast, level: int = 95) -> str:
    """Interval and p of the permutation test; without an interval, what it lacks."""
    p = f"p {p_value(contrast.permutation.p)}"
    interval = _interval(contrast, level)
    if math.isfinite(interval.low):
        return f"{level}% interval {interval_points(interval)}, {p}"
    return f"{missing_interval(contrast, level)}; {p}"


def missing_interval(contrast: Contrast, level: int = 95) -> str:
    """Why there is no interval: too few languages for the relabellings that it needs."""
    return (
        f"no {level}% interval: {contrast.n_related} related and {contrast.n_control} control "
        f"languages allow only {contrast.permutation.relabellings} relabellings of the "
        f"{NEEDED[level]} needed"
    )


def relative_margin_text(comparison: Comparison) -> str:
    """A margin that is a percentage of the mean gain, in points; empty for any other."""
    relative = comparison.relative_margin
    if relative is None:
        return ""
    gain, sources = relative.gain, len(relative.sources)
    over = f"{gain.n} languages" + (f" and {sources} sources" if sources > 1 else "")
    text = f"{100 * relative.share:g}% of the mean gain"
    if relative.differs:
        return (
            f"{text} = {points(relative.value, signed=False)} points ({points(gain.estimate)} "
            f"points over {over}, whatever is related)"
        )
    return (
        f"{text}, which does not differ from zero ({points(gain.estimate)} points over {over}, 95% "
        f"interval {interval_points(gain.interval_95)}), so the margin is relative to nothing and "
        f"nothing can be called equal"
    )


def _interval(contrast: Contrast, level: int) -> Interval:
    test = contrast.permutation
    return {95: test.interval_95, 90: test.interval_90}[level]
