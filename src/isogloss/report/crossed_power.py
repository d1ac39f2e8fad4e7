"""What a planned crossed design can show: table, sentences and proposed languages."""

import math
from dataclasses import dataclass

from isogloss.analysis.design_proposal import Proposal
from isogloss.formatting import decimal, in_hours, listed, points
from isogloss.languages import language
from isogloss.report.power import percent
from isogloss.stats.crossed_power import CrossedPower, CrossedSpread


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
                in_hours(cost.hours),
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
        f"crossed design: {plan.items} items per language, {in_seeds(plan)}; margin "
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


def in_seeds(plan: CrossedPlan) -> str:
    """The number of seeds in words."""
    return "1 seed" if plan.seeds == 1 else f"{plan.seeds} seeds"


def _points(value: float) -> str:
    return points(value, signed=False)


def _effect(value: float) -> str:
    return _points(value) if math.isfinite(value) else "none"
