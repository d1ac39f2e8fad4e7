"""What a planned design can show: table, sentences and power figure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from isogloss.formatting import points
from isogloss.report.style import FAINT, GRID, INK, MARGIN_COLOUR
from isogloss.stats import power as statistics
from isogloss.stats.power import TARGET_POWER, DesignPower, Spread
from isogloss.types import Interval

# Okabe and Ito's palette, safe for colour-blind readers, ordered by contrast with each other.
STYLES = [
    ("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#009E73", "^", "-."), ("#CC79A7", "D", ":"),
    ("#E69F00", "v", "-"), ("#56B4E9", "P", "--"), ("#000000", "X", "-."),
]  # fmt: skip
UNLIMITED = 10**6  # controls: power no longer changes
HEIGHT = 4.6  # inches


@dataclass(frozen=True)
class Pilot:
    """What a compare run measured: spread, standard error of a language's gain, sample sizes."""

    run_id: str
    spread: float
    item_error: float
    related: int
    control: int
    items: int
    seeds: int

    @property
    def interval(self) -> Interval:
        """95% interval of the spread."""
        return statistics.spread_interval(self.spread, self.related + self.control - 2)


@dataclass(frozen=True)
class Plan:
    """A design and what it can show, one outlook per number of controls, in ascending order.

    `spread` is the standard deviation of measured gains within a group and `parts` what it consists
    of; `margin` and `effect` are fractions of accuracy.
    """

    related: int
    items: int
    seeds: int
    parts: Spread
    spread: float
    margin: float
    effect: float
    outlooks: tuple[DesignPower, ...]
    pilot: Pilot | None


def text(plan: Plan) -> str:
    """The table in aligned columns: contrasts and spreads in points, power in percent."""
    lines: list[tuple[str, ...]] = [
        (
            *("controls", "spread", "significant from", "detectable"),
            *(f"power at {_points(plan.effect)}", "power of equivalence"),
        )
    ]
    for outlook in plan.outlooks:
        contrasts = (outlook.spread, outlook.significant, outlook.minimum_detectable_effect)
        chances = (outlook.power, outlook.equivalence)
        lines.append((str(outlook.control), *map(_contrast, contrasts), *map(percent, chances)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(value.rjust(width) for value, width in zip(line, widths, strict=True))
        for line in lines
    ]
    heading = f"{_design(plan)}; margin ±{_points(plan.margin)} points; contrasts in points"
    return "\n".join([heading, "", *rows])


def sentences(plan: Plan) -> list[str]:
    """What the table means, one statement each: detection, equivalence, where the spread is."""
    return [_detection(plan), *_equivalence(plan), *_spread(plan)]


def figure(plan: Plan) -> Figure:
    """Power against the true contrast, one line per number of controls; the margin is shaded."""
    detectable = [
        outlook.minimum_detectable_effect
        for outlook in plan.outlooks
        if math.isfinite(outlook.minimum_detectable_effect)
    ]
    reach = max(1.3 * plan.effect, 2 * plan.margin, *(1.3 * effect for effect in detectable), 0.0)
    drawing = Figure(figsize=(8, HEIGHT), layout="constrained")
    axes = drawing.add_subplot()
    shade = Patch(
        color=MARGIN_COLOUR,
        alpha=0.35,
        linewidth=0,
        label=f"margin, ±{_points(plan.margin)} points",
    )
    axes.axvspan(0, 100 * plan.margin, color=MARGIN_COLOUR, alpha=0.35, linewidth=0)
    axes.axhline(100 * TARGET_POWER, color=INK, linewidth=0.8, linestyle=":")
    axes.axvline(100 * plan.effect, color=INK, linewidth=0.8, linestyle=":")
    asked = Line2D(
        [], [], color=INK, linewidth=0.8, linestyle=":",
        label=f"{percent(TARGET_POWER)} power; {_points(plan.effect)} points",
    )  # fmt: skip
    handles = _power_lines(axes, plan, reach)
    axes.set(xlim=(0, 100 * reach), ylim=(0, 100))
    axes.set_xlabel("true contrast (mean gain of related minus that of controls), points")
    axes.set_ylabel("power: chance that p ≤ 0.05, %")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.legend(
        handles=[*handles, asked, shade], loc="outside right center", frameon=False, fontsize=9
    )
    most = plan.outlooks[-1]
    title = (
        f"{most.control} controls detect {_points(most.minimum_detectable_effect)} points with "
        f"{percent(TARGET_POWER)} power"
        if detectable
        else "Too few languages to detect any contrast"
    )
    drawing.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    drawing.text(
        0.01, 1 - 0.42 / HEIGHT, f"{_design(plan)}; spread of gains {_points(plan.spread)} points",
        ha="left", va="center", fontsize=9.5, color=FAINT,
    )  # fmt: skip
    return drawing


def _power_lines(axes: Axes, plan: Plan, reach: float) -> list[Artist]:
    effects = np.linspace(0, reach, 61)
    styles = [(outlook.control, style) for outlook, style in zip(plan.outlooks, cycle(STYLES))]
    styles.append((UNLIMITED, (FAINT, "", "-")))
    handles: list[Artist] = []
    for place, (control, (colour, marker, dashes)) in enumerate(styles):
        power = [
            100 * statistics.power(effect, plan.spread, plan.related, control) for effect in effects
        ]
        handles += axes.plot(
            100 * effects, power, color=colour, linestyle=dashes, linewidth=1.8, marker=marker,
            markersize=5.5, markevery=(2 * (place % 5), 10), clip_on=False, zorder=3,
            label=f"{control} controls" if control < UNLIMITED else "unlimited controls",
        )  # fmt: skip
    return handles


def _detection(plan: Plan) -> str:
    related, most = plan.related, plan.outlooks[-1]
    if math.isinf(most.minimum_detectable_effect):
        return (
            f"With {related} related and {most.control} control languages there are too few "
            f"relabellings for any contrast to reach p = 0.05."
        )
    limit = statistics.limiting_effect(plan.spread, related)
    return (
        f"With {related} related languages the minimum detectable effect stays above "
        f"{_points(limit)} points, however many controls there are; with {most.control} it is "
        f"{_points(most.minimum_detectable_effect)}. "
        f"Power at a true contrast of {_points(plan.effect)} points: "
        f"{_chances(plan.outlooks, 'power')}."
    )


def _equivalence(plan: Plan) -> list[str]:
    most = plan.outlooks[-1]
    statements = [
        f"Power of the verdict equivalent at a true contrast of zero (margin "
        f"±{_points(plan.margin)} points): {_chances(plan.outlooks, 'equivalence')}."
    ]
    if most.equivalence < TARGET_POWER:
        enough = statistics.languages_for_equivalence(plan.spread, plan.margin)
        alternatives = [f"{enough} related and {enough} control languages"]
        if spread := statistics.spread_for_equivalence(plan.related, most.control, plan.margin):
            alternatives.append(
                f"with {plan.related} and {most.control}, a spread of {_points(spread)} points"
            )
        statements.append(
            f"Equivalence at {percent(TARGET_POWER)} power needs {' or, '.join(alternatives)}."
        )
    return statements


def _spread(plan: Plan) -> list[str]:
    pilot = plan.pilot
    if pilot and plan.parts.languages == 0:
        return [
            f"The sampling error of the pilot's {pilot.items} items per language explains all of "
            f"its spread of {_points(pilot.spread)} points, so the spread between languages is "
            f"unknown and the table takes it as zero: a best case. Plan with `spread` instead of "
            f"`like`."
        ]
    statements = [
        f"Of the spread of {_points(plan.spread)} points, {_points(plan.parts.languages)} would "
        f"remain with unlimited items and seeds: the spread between languages."
    ]
    if pilot:
        low, high = pilot.interval
        statements.append(
            f"The pilot's spread of {_points(pilot.spread)} points is estimated from "
            f"{pilot.related + pilot.control} languages (95% interval {_points(low)} to "
            f"{_points(high)}); minimum detectable effects are proportional to it."
        )
    return statements


def _chances(outlooks: Sequence[DesignPower], name: str) -> str:
    """Power with the fewest and the most controls, and the smallest number that reaches 80%."""
    chances = {outlook.control: float(getattr(outlook, name)) for outlook in outlooks}
    fewest, most = min(chances), max(chances)
    low, high = (percent(chances[n]) for n in (fewest, most))
    if low == high:
        phrase = f"{high} with {' or '.join(map(str, sorted({fewest, most})))} controls"
    else:
        phrase = f"{low} with {fewest} and {high} with {most} controls"
    enough = [n for n, chance in chances.items() if chance >= TARGET_POWER]
    if enough and enough[0] > fewest:
        phrase += f"; {enough[0]} controls reach {percent(TARGET_POWER)}"
    return phrase.replace("<", "under ").replace(">", "over ")


def _design(plan: Plan) -> str:
    seeds = "1 seed" if plan.seeds == 1 else f"{plan.seeds} seeds"
    return f"{plan.related} related languages, {plan.items} items per language, {seeds}"


def percent(share: float) -> str:
    """A share in whole percent that never rounds to 0% or 100%."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 < share < 1 else f"{100 * share:.0f}%"


def _points(value: float) -> str:
    return points(value, signed=False)


def _contrast(value: float) -> str:
    """A contrast in points, or `none` where no contrast is large enough."""
    return _points(value) if math.isfinite(value) else "none"
