"""Figures of what a planned design can show: power against the true effect."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from isogloss.formatting import points
from isogloss.report.crossed_power import CrossedPlan, in_seeds
from isogloss.report.power import Plan, design, percent
from isogloss.report.style import FAINT, GRID, INK, MARGIN_COLOUR
from isogloss.stats import power as statistics
from isogloss.stats.crossed_power import CrossedPower, matching_level
from isogloss.stats.power import TARGET_POWER

# Okabe and Ito's palette, safe for colour-blind readers, ordered by contrast with each other.
STYLES = [
    ("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#009E73", "^", "-."), ("#CC79A7", "D", ":"),
    ("#E69F00", "v", "-"), ("#56B4E9", "P", "--"), ("#000000", "X", "-."),
]  # fmt: skip
UNLIMITED = 10**6  # controls: power no longer changes
HEIGHT = 4.6  # inches


@dataclass(frozen=True)
class PowerLine:
    """The line of one design: `power`, a share, of a true effect."""

    label: str
    style: tuple[str, str, str]
    power: Callable[[float], float]


@dataclass(frozen=True)
class Words:
    """What is written on a figure."""

    title: str
    subtitle: str
    effect: str


def plan_figure(plan: Plan) -> Figure:
    """Power against the true contrast, one line per number of controls; the margin is shaded."""

    def line(control: int, style: tuple[str, str, str], label: str) -> PowerLine:
        return PowerLine(
            label,
            style,
            lambda effect: statistics.power(effect, plan.spread, plan.related, control),
        )

    lines = [
        line(outlook.control, style, f"{outlook.control} controls")
        for outlook, style in zip(plan.outlooks, cycle(STYLES))
    ]
    lines.append(line(UNLIMITED, (FAINT, "", "-"), "unlimited controls"))
    most = plan.outlooks[-1]
    effects = [outlook.minimum_detectable_effect for outlook in plan.outlooks]
    title = (
        f"{most.control} controls detect {_points(most.minimum_detectable_effect)} points with "
        f"{percent(TARGET_POWER)} power"
        if any(map(math.isfinite, effects))
        else "Too few languages to detect any contrast"
    )
    words = Words(
        title,
        f"{design(plan)}; spread of gains {_points(plan.spread)} points",
        "true contrast (mean gain of related minus that of controls), points",
    )
    return _drawn(lines, effects, plan.effect, plan.margin, words)


def crossed_plan_figure(plan: CrossedPlan) -> Figure:
    """Power against the true effect of kinship, one line per number of sources."""
    lines = [
        _crossed_line(outlook.power, style) for outlook, style in zip(plan.outlooks, cycle(STYLES))
    ]
    words = Words(
        _crossed_title(plan.best.power),
        f"crossed design, {plan.items} items per language, {in_seeds(plan)}",
        "true effect of kinship on a gain, points",
    )
    effects = [outlook.power.minimum_detectable_effect for outlook in plan.outlooks]
    return _drawn(lines, effects, plan.effect, plan.margin, words)


def _crossed_line(design: CrossedPower, style: tuple[str, str, str]) -> PowerLine:
    df, level = design.sources - 1, matching_level(design.sources, 0.05)
    return PowerLine(
        f"{design.sources} sources, {design.relatives} relatives each",
        style,
        lambda effect: statistics.power_of_t(effect, design.error, df, level),
    )


def _crossed_title(best: CrossedPower) -> str:
    if math.isinf(best.minimum_detectable_effect):
        return "Too few sources to detect any effect of kinship"
    return (
        f"{best.sources} sources with {best.relatives} relatives each detect "
        f"{_points(best.minimum_detectable_effect)} points with {percent(TARGET_POWER)} power"
    )


def _drawn(
    lines: Sequence[PowerLine],
    detectable: Sequence[float],
    effect: float,
    margin: float,
    words: Words,
) -> Figure:
    """The lines as far as the effects that are detectable, with the margin and the effect asked."""
    finite = [1.3 * value for value in detectable if math.isfinite(value)]
    reach = max(1.3 * effect, 2 * margin, *finite, 0.0)
    drawing = Figure(figsize=(8, HEIGHT), layout="constrained")
    axes = drawing.add_subplot()
    axes.axvspan(0, 100 * margin, color=MARGIN_COLOUR, alpha=0.35, linewidth=0)
    axes.axhline(100 * TARGET_POWER, color=INK, linewidth=0.8, linestyle=":")
    axes.axvline(100 * effect, color=INK, linewidth=0.8, linestyle=":")
    effects = np.linspace(0, reach, 61)
    handles = []
    for place, line in enumerate(lines):
        colour, marker, dashes = line.style
        handles += axes.plot(
            100 * effects, [100 * line.power(effect) for effect in effects],
            color=colour, linestyle=dashes, linewidth=1.8, marker=marker,
            markersize=5.5, markevery=(2 * (place % 5), 10), clip_on=False, zorder=3,
            label=line.label,
        )  # fmt: skip
    asked = Line2D(
        [], [], color=INK, linewidth=0.8, linestyle=":",
        label=f"{percent(TARGET_POWER)} power; {_points(effect)} points",
    )  # fmt: skip
    label = f"margin, ±{_points(margin)} points"
    shade = Patch(color=MARGIN_COLOUR, alpha=0.35, linewidth=0, label=label)
    axes.set(xlim=(0, 100 * reach), ylim=(0, 100))
    axes.set_xlabel(words.effect)
    axes.set_ylabel("power: chance that p ≤ 0.05, %")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.legend(
        handles=[*handles, asked, shade], loc="outside right center", frameon=False, fontsize=9
    )
    drawing.suptitle(
        f"{words.title}\n", x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK
    )
    drawing.text(
        0.01, 1 - 0.42 / HEIGHT, words.subtitle,
        ha="left", va="center", fontsize=9.5, color=FAINT,
    )  # fmt: skip
    return drawing


def _points(value: float) -> str:
    return points(value, signed=False)
