"""What a planned crossed design can show: table, sentences, power figure and proposed languages."""

import math
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from isogloss.analysis.design_proposal import Proposal
from isogloss.formatting import decimal, listed, points
from isogloss.languages import language
from isogloss.report.power import STYLES, percent
from isogloss.report.style import FAINT, GRID, INK, MARGIN_COLOUR
from isogloss.stats.crossed_power import CrossedPower, CrossedSpread, matching_level
from isogloss.stats.power import TARGET_POWER, power_of_t

HEIGHT = 4.6  # inches


@dataclass(frozen=True)
class DesignCost:
    """`evaluations` of one adapter or the base model on one target; hours, None if unknown."""

    adapters: int
    evaluations: int
    hours: float | None


@dataclass(frozen=True)
class CrossedOutlook:
    """A crossed design: what it can show and what it costs."""

    power: CrossedPower
    cost: DesignCost


@dataclass(frozen=True)
class CrossedPlan:
    """Crossed designs by number of sources, ascending; of a proposal, the one that is `best`.

    `spread` is what the gains of the designs vary by, `pilot` the id of the compare run that it was
    estimated from, if any, with its numbers of sources and targets. `margin` and `effect` are
    fractions of accuracy.
    """

    items: int
    seeds: int
    spread: CrossedSpread
    margin: float
    effect: float
    outlooks: tuple[CrossedOutlook, ...]
    best: CrossedOutlook
    proposal: Proposal | None = None
    pilot: str | None = None
    pilot_sources: int = 0
    pilot_targets: int = 0


def text(plan: CrossedPlan) -> str:
    """The table in aligned columns: effects in points, power in percent."""
    lines: list[tuple[str, ...]] = [
        (
            *("sources", "relatives", "adapters", "evaluations", "hours", "significant from"),
            *("detectable", f"power at {_points(plan.effect)}", "power of equivalence"),
        )
    ]
    for outlook in plan.outlooks:
        power, cost = outlook.power, outlook.cost
        lines.append(
            (
                *map(str, (power.sources, power.relatives, cost.adapters, cost.evaluations)),
                _hours(cost.hours),
                *map(_effect, (power.significant, power.minimum_detectable_effect)),
                *map(percent, (power.power, power.equivalence)),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(value.rjust(width) for value, width in zip(line, widths, strict=True))
        for line in lines
    ]
    heading = (
        f"crossed design: {plan.items} items per language, {_seeds(plan)}; margin "
        f"±{_points(plan.margin)} points; effects of kinship in points"
    )
    return "\n".join([heading, "", *rows])


def sentences(plan: CrossedPlan) -> list[str]:
    """What the table means, one statement each."""
    best = plan.best.power
    statements = [_detection(best)]
    statements.append(
        f"Power of the verdict equivalent at a true effect of zero (margin "
        f"±{_points(plan.margin)} points): {percent(best.equivalence)}."
    )
    spread = plan.spread
    statements.append(
        f"Beside effects of sources and targets, gains vary by "
        f"{_points(spread.of_target(plan.items, plan.seeds))} points between targets of a branch "
        f"({_points(spread.languages)} with unlimited items and seeds) and by "
        f"{_points(spread.branches)} between branches. More sources reduce both parts, more "
        f"relatives only the first. Targets of branches without a source add nothing."
    )
    if plan.pilot:
        statements.append(
            f"The spread is estimated from {plan.pilot_sources} sources and {plan.pilot_targets} "
            f"targets of the pilot."
        )
    if plan.proposal:
        statements.append(_script(plan.proposal))
    return statements


def study_fragment(proposal: Proposal, seeds: int, margin: float) -> str:
    """The lines of a study file that run the proposed design."""
    lines = ["sources: # one per branch"]
    lines += [f"- {code} # {language(code).branch}" for code in proposal.sources]
    lines.append(f"languages: {','.join(proposal.targets)}")
    if seeds > 1:
        lines.append(f"seeds: {','.join(map(str, range(seeds)))}")
    return "\n".join([*lines, "compare:", f"  margin: {margin:g}"])


def figure(plan: CrossedPlan) -> Figure:
    """Power against the true effect of kinship, one line per number of sources."""
    detectable = [
        outlook.power.minimum_detectable_effect
        for outlook in plan.outlooks
        if math.isfinite(outlook.power.minimum_detectable_effect)
    ]
    reach = max(1.3 * plan.effect, 2 * plan.margin, *(1.3 * effect for effect in detectable), 0.0)
    drawing = Figure(figsize=(8, HEIGHT), layout="constrained")
    axes = drawing.add_subplot()
    axes.axvspan(0, 100 * plan.margin, color=MARGIN_COLOUR, alpha=0.35, linewidth=0)
    axes.axhline(100 * TARGET_POWER, color=INK, linewidth=0.8, linestyle=":")
    axes.axvline(100 * plan.effect, color=INK, linewidth=0.8, linestyle=":")
    handles = _power_lines(axes, plan, reach)
    handles.append(
        Line2D(
            [], [], color=INK, linewidth=0.8, linestyle=":",
            label=f"{percent(TARGET_POWER)} power; {_points(plan.effect)} points",
        )
    )  # fmt: skip
    label = f"margin, ±{_points(plan.margin)} points"
    handles.append(Patch(color=MARGIN_COLOUR, alpha=0.35, linewidth=0, label=label))
    axes.set(xlim=(0, 100 * reach), ylim=(0, 100))
    axes.set_xlabel("true effect of kinship on a gain, points")
    axes.set_ylabel("power: chance that p ≤ 0.05, %")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.legend(handles=handles, loc="outside right center", frameon=False, fontsize=9)
    drawing.suptitle(
        f"{_title(plan.best.power)}\n",
        x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK,
    )  # fmt: skip
    drawing.text(
        0.01, 1 - 0.42 / HEIGHT, f"crossed design, {plan.items} items per language, {_seeds(plan)}",
        ha="left", va="center", fontsize=9.5, color=FAINT,
    )  # fmt: skip
    return drawing


def _power_lines(axes: Axes, plan: CrossedPlan, reach: float) -> list[Artist]:
    effects = np.linspace(0, reach, 61)
    handles: list[Artist] = []
    for place, (outlook, (colour, marker, dashes)) in enumerate(zip(plan.outlooks, cycle(STYLES))):
        design = outlook.power
        df, level = design.sources - 1, matching_level(design.sources, 0.05)
        power = [100 * power_of_t(effect, design.error, df, level) for effect in effects]
        handles += axes.plot(
            100 * effects, power, color=colour, linestyle=dashes, linewidth=1.8, marker=marker,
            markersize=5.5, markevery=(2 * (place % 5), 10), clip_on=False, zorder=3,
            label=f"{design.sources} sources, {design.relatives} relatives each",
        )  # fmt: skip
    return handles


def _title(best: CrossedPower) -> str:
    if math.isinf(best.minimum_detectable_effect):
        return "Too few sources to detect any effect of kinship"
    return (
        f"{best.sources} sources with {best.relatives} relatives each detect "
        f"{_points(best.minimum_detectable_effect)} points with {percent(TARGET_POWER)} power"
    )


def _detection(best: CrossedPower) -> str:
    design = f"{best.sources} sources with {best.relatives} relatives each"
    if math.isinf(best.minimum_detectable_effect):
        return (
            f"With {design} no effect can reach p = 0.05: there are {best.matchings} ways to match "
            f"sources with branches. Four sources are the fewest."
        )
    return (
        f"With {design} the minimum detectable effect of kinship is "
        f"{_points(best.minimum_detectable_effect)} points, and a true effect of "
        f"{_points(best.effect)} points is detected with {percent(best.power)} power. The lowest "
        f"possible p is 1/{best.matchings:,}."
    )


def _script(proposal: Proposal) -> str:
    kept = (
        "kinship and script cannot be told apart in this choice"
        if math.isinf(proposal.script_inflation)
        else f"holding the script equal widens intervals by a factor of "
        f"{decimal(proposal.script_inflation, 2, signed=False)}"
    )
    return (
        f"The proposed languages are of {len(proposal.sources)} branches of "
        f"{len(proposal.families)} families ({listed(proposal.families)}) in "
        f"{len(proposal.scripts)} scripts; {kept}."
    )


def languages_table(proposal: Proposal) -> str:
    """The proposed source and targets of each branch."""
    width = max(len(language(code).branch) for code in proposal.sources)
    return "\n".join(
        f"{language(source).branch:<{width}}  {source}: {', '.join(proposal.relatives[source])}"
        for source in proposal.sources
    )


def _seeds(plan: CrossedPlan) -> str:
    return "1 seed" if plan.seeds == 1 else f"{plan.seeds} seeds"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "unknown"
    return f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"


def _points(value: float) -> str:
    return points(value, signed=False)


def _effect(value: float) -> str:
    return _points(value) if math.isfinite(value) else "none"
