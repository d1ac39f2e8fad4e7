"""The plan step: the table, the sentences and the figure of what a design can show, as a run."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss.config import PlanConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.formatting import points
from isogloss.languages import group
from isogloss.stats import power as planning
from isogloss.stats.power import Outlook, Spread
from isogloss.tracking import runs as tracking
from isogloss.types import Group, Interval

RELATED, ITEMS, SEEDS = 4, 900, 1
PASSAGES_PER_ITEM = 488 / 900  # Belebele's
METRICS = ("significant", "minimum_detectable_effect", "power", "equivalence")
TABLE, FIGURE, DPI = "plan.csv", "power.png", 160
# Okabe and Ito's colours, safe for colour-blind readers, darkest and best apart first.
STYLES = [
    ("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#009E73", "^", "-."), ("#CC79A7", "D", ":"),
    ("#E69F00", "v", "-"), ("#56B4E9", "P", "--"), ("#000000", "X", "-."),
]  # fmt: skip
INK, FAINT = "#333333", "#888888"
ENDLESS = 10**6


@dataclass(frozen=True)
class Pilot:
    """What a compare run measured: spread, standard error of a language's gain, and of how much."""

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
        return planning.spread_interval(self.spread, self.related + self.control - 2)


@dataclass(frozen=True)
class Planned:
    """A design with an outlook for each number of controls, from the fewest to the most."""

    related: int
    items: int
    seeds: int
    parts: Spread
    spread: float
    margin: float
    effect: float
    outlooks: tuple[Outlook, ...]
    pilot: Pilot | None


def plan(config: PlanConfig, pilot: Pilot | None = None) -> Planned:
    """What the design shows; a pilot's spread, and its numbers where none are given, are taken.

    ConfigError if the parameters contradict one another.
    """
    related = config.related or (pilot.related if pilot else RELATED)
    items = config.items or (pilot.items if pilot else ITEMS)
    seeds = config.seeds or (pilot.seeds if pilot else SEEDS)
    if pilot:
        parts = planning.pilot_spread(
            pilot.spread, pilot.item_error, pilot.items, pilot.seeds, config.seed_spread
        )
    else:
        passages = config.passages or max(1, round(PASSAGES_PER_ITEM * items))
        if passages > items:
            raise ConfigError(f"{items} items cannot be on {passages} `passages`.")
        parts = Spread(
            languages=config.spread,
            seeds=config.seed_spread,
            items=planning.item_spread(
                config.gain, config.discordant, items / passages, config.passage_correlation
            ),
        )
    spread = parts.measured(items, seeds)
    return Planned(
        related=related,
        items=items,
        seeds=seeds,
        parts=parts,
        spread=spread,
        margin=config.margin,
        effect=config.effect,
        outlooks=tuple(
            planning.outlook(spread, related, control, effect=config.effect, margin=config.margin)
            for control in sorted(set(config.control))
        ),
        pilot=pilot,
    )


def read_pilot(run_id: str) -> Pilot:
    """What a compare run measured; ComparisonError if it is no such run or does not say."""
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        raise ComparisonError(f"like: {run_id!r} is not the id of a run.") from error
    tags, numbers = run.data.tags, run.data.metrics
    if tags.get("isogloss.kind") != "compare" or run.info.status != "FINISHED":
        raise ComparisonError(f"like: run {run_id!r} is not a finished compare run.")
    needed = ("contrast/spread", "contrast/related_languages", "contrast/control_languages")
    if missing := [name for name in needed if name not in numbers]:
        raise ComparisonError(
            f"like: compare run {run_id!r} has no metric {missing[0]!r}; repeat the comparison "
            f"with this version."
        )
    if not numbers["contrast/spread"] > 0:
        raise ComparisonError(f"like: in compare run {run_id!r} gains do not vary.")
    errors = [numbers[name] for name in _in_contrast(run, "gain_se/", numbers)]
    items = _items(run)
    if not errors or not items:
        what = "standard errors of gains" if items else "numbers of items"
        raise ComparisonError(f"like: compare run {run_id!r} and its runs have no {what}.")
    return Pilot(
        run_id=run_id,
        spread=numbers["contrast/spread"],
        item_error=math.sqrt(float(np.mean(np.square(errors)))),
        related=round(numbers["contrast/related_languages"]),
        control=round(numbers["contrast/control_languages"]),
        items=items,
        seeds=max(1, round(numbers.get("contrast/seeds", 1))),
    )


def _in_contrast(compared: Run, prefix: str, names: Iterable[str]) -> list[str]:
    """Names that end in the code of a related or control language of the comparison."""
    source = compared.data.tags["isogloss.source"]
    branch = compared.data.params.get("branch", "auto")
    return [
        name
        for name in names
        if name.startswith(prefix)
        and name != f"{prefix}mean"
        and group(name.removeprefix(prefix), source, None if branch == "auto" else branch)
        in (Group.RELATED, Group.CONTROL)
    ]


def _items(compared: Run) -> int:
    """Mean number of items of the languages compared, or 0 if the evaluate runs do not say."""
    counts = []
    for run_id in compared.data.tags.get("isogloss.cells", "").split():
        try:
            numbers = mlflow.get_run(run_id).data.metrics
        except MlflowException:  # deleted for good since
            continue
        counts += [
            numbers[name]
            for name in _in_contrast(compared, "n/", numbers)
            if f"gain/{name.removeprefix('n/')}" in compared.data.metrics
        ]
    return round(float(np.mean(counts))) if counts else 0


def table(planned: Planned) -> pd.DataFrame:
    """One row a number of controls, with the fields of Outlook; fractions."""
    return pd.DataFrame([asdict(row) for row in planned.outlooks])


def metrics(planned: Planned) -> dict[str, float]:
    """Numbers by name and number of controls; what is infinite is left out."""
    values = {
        f"plan/{name}/control-{row.control}": float(getattr(row, name))
        for row in planned.outlooks
        for name in METRICS
    }
    values |= {
        "plan/spread": planned.spread,
        "plan/spread_of_languages": planned.parts.languages,
        "plan/endless_controls": planning.endless_controls(planned.spread, planned.related),
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def text(planned: Planned) -> str:
    """The table in aligned columns: spread and contrasts in points, chances in percent."""
    found = f"{_points(planned.effect)} found"
    headings = ("controls", "spread", "significant from", "detectable", found, "0 found equivalent")
    lines: list[tuple[str, ...]] = [headings]
    for row in planned.outlooks:
        contrasts = (row.spread, row.significant, row.minimum_detectable_effect)
        chances = (row.power, row.equivalence)
        lines.append((str(row.control), *map(_points, contrasts), *map(_percent, chances)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    head = (
        f"{planned.related} related languages, {planned.items} items a language, "
        f"{_seeds(planned.seeds)}; margin ±{_points(planned.margin)}; contrasts in points"
    )
    return "\n".join([head, "", *rows])


def sentences(planned: Planned) -> str:
    """What follows from the table."""
    most = planned.outlooks[-1]
    related, margin, effect = planned.related, _points(planned.margin), _points(planned.effect)
    if math.isinf(most.minimum_detectable_effect):
        found = [
            f"With {related} related and {most.control} control languages there are too few "
            f"relabellings for any contrast to reach p = 0.05."
        ]
    else:
        limit = planning.endless_controls(planned.spread, related)
        found = [
            f"With {related} related languages no number of controls brings the minimum "
            f"detectable effect under {_points(limit)} points; {most.control} bring it to "
            f"{_points(most.minimum_detectable_effect)}.",
            f"A true contrast of {effect} points is found with a chance of "
            f"{_chances(planned.outlooks, 'power')}.",
        ]
    found.append(
        f"A true contrast of zero is shown to lie within ±{margin} points with a chance of "
        f"{_chances(planned.outlooks, 'equivalence')}."
    )
    if most.equivalence < planning.ENOUGH:
        enough = planning.languages_for_equivalence(planned.spread, planned.margin)
        needs = f"{enough} related languages and as many controls"
        if narrow := planning.spread_for_equivalence(related, most.control, planned.margin):
            needs += (
                f", or, with {related} and {most.control}, a spread of {_points(narrow)} points"
            )
        found.append(f"To show it four times in five would take {needs}.")
    if planned.pilot and planned.parts.languages == 0:
        found.append(
            f"The few items of the pilot ({planned.pilot.items} a language) alone explain all of "
            f"the spread of {_points(planned.pilot.spread)} points that it measured, so how far "
            f"languages themselves differ is not known, and the table takes it as nothing: read it "
            f"as the best that can be hoped for, and plan with `spread` instead of `like`."
        )
        return " ".join(found)
    found.append(
        f"Of the spread of {_points(planned.spread)} points, endless items and seeds would leave "
        f"{_points(planned.parts.languages)}: so much languages themselves differ."
    )
    if pilot := planned.pilot:
        low, high = pilot.interval
        found.append(
            f"The pilot's spread of {_points(pilot.spread)} points is an estimate from "
            f"{pilot.related + pilot.control} languages, with a 95% interval from {_points(low)} "
            f"to {_points(high)}; detectable effects go up and down with it."
        )
    return " ".join(found)


def figure(planned: Planned) -> Figure:
    """Power against the true contrast, a line a number of controls; the margin is shaded."""
    known = [
        row.minimum_detectable_effect
        for row in planned.outlooks
        if math.isfinite(row.minimum_detectable_effect)
    ]
    reach = max(1.3 * planned.effect, 2 * planned.margin, *(1.3 * effect for effect in known), 0.0)
    effects = np.linspace(0, reach, 61)
    drawn = Figure(figsize=(8, 4.6), layout="constrained")
    axes = drawn.add_subplot()
    shade = Patch(
        color="#F0E442", alpha=0.35, linewidth=0, label=f"margin, {_points(planned.margin)} points"
    )
    axes.axvspan(0, 100 * planned.margin, color="#F0E442", alpha=0.35, linewidth=0)
    axes.axhline(100 * planning.ENOUGH, color=FAINT, linewidth=1)
    axes.axvline(100 * planned.effect, color=FAINT, linewidth=1)
    lines = [(row.control, style) for row, style in zip(planned.outlooks, cycle(STYLES))]
    lines.append((ENDLESS, (FAINT, "", "-")))
    handles = []
    for place, (control, (colour, marker, dashes)) in enumerate(lines):
        chances = [
            100 * planning.power(effect, planned.spread, planned.related, control)
            for effect in effects
        ]
        handles += axes.plot(
            100 * effects, chances, color=colour, linestyle=dashes, linewidth=1.8, marker=marker,
            markersize=5.5, markevery=(2 * (place % 5), 10), clip_on=False, zorder=3,
            label=f"{control} controls" if control < ENDLESS else "endless controls",
        )  # fmt: skip
    axes.set(xlim=(0, 100 * reach), ylim=(0, 100))
    axes.set_xlabel("true contrast (mean gain of related minus that of controls), points")
    axes.set_ylabel("chance that the test finds it, %")
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    drawn.legend(handles=[*handles, shade], loc="outside right center", frameon=False, fontsize=9)
    most = planned.outlooks[-1]
    title = (
        f"{most.control} controls find {_points(most.minimum_detectable_effect)} points four "
        f"times in five"
        if known
        else "Too few languages for any contrast to be found"
    )
    drawn.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    drawn.text(
        0.01,
        1 - 0.42 / drawn.get_figheight(),
        f"{planned.related} related languages, {planned.items} items, {_seeds(planned.seeds)}; "
        f"spread of gains {_points(planned.spread)} points",
        ha="left",
        va="center",
        fontsize=9.5,
        color=FAINT,
    )
    return drawn


def run_plan(config: PlanConfig) -> None:
    """The entry point `plan`: print what a design can show, and log it as a run."""
    planned = plan(config, read_pilot(config.like) if config.like else None)
    said = sentences(planned)
    name = f"plan {planned.related} related languages"
    with tracking.run("plan", name, config, {"study": config.study}, config.experiment) as run:
        mlflow.log_metrics(metrics(planned))
        mlflow.log_text(table(planned).to_csv(index=False), TABLE)
        mlflow.log_figure(figure(planned), FIGURE, save_kwargs={"dpi": DPI})
        mlflow.set_tag("mlflow.note.content", said)
    print(f"\n{text(planned)}\n\n{said}\n")
    print(f"figure: {tracking.artifact_path(run, FIGURE)}")


def _chances(outlooks: Sequence[Outlook], name: str) -> str:
    """A chance with the fewest and with the most controls, and how many give four in five."""
    chances = {row.control: float(getattr(row, name)) for row in outlooks}
    fewest, most = (_percent(chances[n]) for n in (min(chances), max(chances)))
    enough = [n for n, chance in chances.items() if chance >= planning.ENOUGH]
    if fewest == most:
        said = f"{most} with {' or '.join(map(str, sorted({min(chances), max(chances)})))} controls"
    else:
        said = f"{fewest} with {min(chances)} and {most} with {max(chances)} controls"
    if enough and enough[0] > min(chances):
        said += f"; {enough[0]} are enough for four times in five"
    return said.replace("<", "under ").replace(">", "over ")


def _percent(share: float) -> str:
    """A chance in whole percent, not rounded to none or all."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 < share < 1 else f"{100 * share:.0f}%"


def _points(value: float) -> str:
    return points(value, signed=False)


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"
