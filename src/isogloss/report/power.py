"""What a planned design can show: table and sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from isogloss.formatting import points
from isogloss.stats import power as statistics
from isogloss.stats.power import TARGET_POWER, DesignPower, Spread
from isogloss.types import Interval


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
    heading = f"{design(plan)}; margin ±{_points(plan.margin)} points; contrasts in points"
    return "\n".join([heading, "", *rows])


def sentences(plan: Plan) -> list[str]:
    """What the table means, one statement each: detection, equivalence, where the spread is."""
    return [_detection(plan), *_equivalence(plan), *_spread(plan)]


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


def design(plan: Plan) -> str:
    """The design in words, without its controls."""
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
