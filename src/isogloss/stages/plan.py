"""The plan step: what a design can show before it is paid for, as a run."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss import tracking
from isogloss.analysis.frames import csv_text
from isogloss.config import PlanConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.languages import group
from isogloss.report.crossed_power import figure as crossed_figure
from isogloss.report.crossed_power import sentences as crossed_sentences
from isogloss.report.power import Pilot, Plan, figure, sentences, text
from isogloss.stages.plan_crossed import (
    crossed_metrics,
    crossed_plan,
    crossed_table,
    printed,
    read_crossed_pilot,
)
from isogloss.stats import power as statistics
from isogloss.stats.power import Spread
from isogloss.tracking import RunKind, tag
from isogloss.tracking.server import is_missing
from isogloss.tracking.similar import similar_runs
from isogloss.tracking.tags import read_parts
from isogloss.types import Group

RELATED, ITEMS, SEEDS = 4, 900, 1
PASSAGES_PER_ITEM = 488 / 900  # Belebele's
METRICS = ("significant", "minimum_detectable_effect", "power", "equivalence")
TABLE, FIGURE, DPI = "plan.csv", "power.png", 160


class LoggedPlan(NamedTuple):
    """What a plan leaves in its run."""

    metrics: dict[str, float]
    table: pd.DataFrame
    figure: Figure
    note: str


def run_plan(config: PlanConfig) -> str:
    """The entry point `plan`: print what a design can show, log it as a run, return its id."""
    if config.sources or config.propose:
        return _run_crossed_plan(config)
    planned = plan(config, read_pilot(config.like) if config.like else None)
    statements = "\n".join(sentences(planned))
    name = f"plan {planned.related} related languages"
    result = LoggedPlan(metrics(planned), table(planned), figure(planned), statements)
    run = _log(name, result, config)
    print(f"\n{text(planned)}\n\n{statements}\n")
    print(f"figure: {tracking.artifact_path(run, FIGURE)}")
    return str(run.info.run_id)


def plan(config: PlanConfig, pilot: Pilot | None = None) -> Plan:
    """What a design can show, for each number of control languages.

    A pilot provides the spread, and every sample size that the configuration leaves open.
    ConfigError if the parameters contradict one another.
    """
    related = config.related or (pilot.related if pilot else RELATED)
    items = config.items or (pilot.items if pilot else ITEMS)
    seeds = config.seeds or (pilot.seeds if pilot else SEEDS)
    if pilot:
        parts = statistics.pilot_spread(
            pilot.spread, pilot.item_error, pilot.items, pilot.seeds, config.seed_spread
        )
    else:
        parts = _assumed_spread(config, items)
    spread = parts.measured(items, seeds)
    return Plan(
        related=related,
        items=items,
        seeds=seeds,
        parts=parts,
        spread=spread,
        margin=config.margin_fraction,
        effect=config.effect,
        outlooks=tuple(
            statistics.design_power(
                spread, related, control, effect=config.effect, margin=config.margin_fraction
            )
            for control in sorted(set(config.control))
        ),
        pilot=pilot,
    )


def read_pilot(run_id: str) -> Pilot:
    """Measurements of a compare run; ComparisonError if it is not one or lacks any of them."""
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise ComparisonError(
            f"like: {run_id!r} is not the id of a run{similar_runs(run_id, RunKind.COMPARE)}"
        ) from error
    metrics = run.data.metrics
    if tag(run, "kind") != RunKind.COMPARE or run.info.status != "FINISHED":
        raise ComparisonError(f"like: run {run_id!r} is not a finished compare run.")
    needed = ("contrast/spread", "contrast/related_languages", "contrast/control_languages")
    if missing := [name for name in needed if name not in metrics]:
        raise ComparisonError(
            f"like: compare run {run_id!r} has no metric {missing[0]!r}; repeat the comparison "
            f"with this version of isogloss."
        )
    if not metrics["contrast/spread"] > 0:
        raise ComparisonError(f"like: in compare run {run_id!r} gains do not vary.")
    errors = [metrics[name] for name in _in_contrast(run, "gain_se/", metrics)]
    items = _items_per_language(run)
    if not errors or not items:
        lacking = "standard errors of gains" if items else "numbers of items"
        raise ComparisonError(f"like: compare run {run_id!r} and its runs have no {lacking}.")
    return Pilot(
        run_id=run_id,
        spread=metrics["contrast/spread"],
        item_error=math.sqrt(float(np.mean(np.square(errors)))),
        related=round(metrics["contrast/related_languages"]),
        control=round(metrics["contrast/control_languages"]),
        items=items,
        seeds=max(1, round(metrics.get("contrast/seeds", 1))),
    )


def table(planned: Plan) -> pd.DataFrame:
    """One row per number of controls, with the fields of DesignPower; fractions."""
    return pd.DataFrame([asdict(outlook) for outlook in planned.outlooks])


def metrics(planned: Plan) -> dict[str, float]:
    """Finite numbers by name and number of controls."""
    values = {
        f"plan/{name}/control-{outlook.control}": float(getattr(outlook, name))
        for outlook in planned.outlooks
        for name in METRICS
    }
    values |= {
        "plan/spread": planned.spread,
        "plan/spread_of_languages": planned.parts.languages,
        "plan/endless_controls": statistics.limiting_effect(planned.spread, planned.related),
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _run_crossed_plan(config: PlanConfig) -> str:
    planned = crossed_plan(config, read_crossed_pilot(config.like) if config.like else None)
    statements = "\n".join(crossed_sentences(planned))
    result = LoggedPlan(
        crossed_metrics(planned), crossed_table(planned), crossed_figure(planned), statements
    )
    run = _log(f"plan {planned.best.power.sources} sources", result, config)
    print(f"\n{printed(planned)}\n")
    print(f"figure: {tracking.artifact_path(run, FIGURE)}")
    return str(run.info.run_id)


def _log(name: str, result: LoggedPlan, config: PlanConfig) -> Run:
    with tracking.open_run(
        RunKind.PLAN, name, config, {"study": config.study}, config.experiment
    ) as run:
        mlflow.log_metrics(result.metrics)
        mlflow.log_text(csv_text(result.table), TABLE)
        mlflow.log_figure(result.figure, FIGURE, save_kwargs={"dpi": DPI})
        mlflow.set_tag("mlflow.note.content", result.note)
    return run


def _assumed_spread(config: PlanConfig, items: int) -> Spread:
    passages = config.passages or max(1, round(PASSAGES_PER_ITEM * items))
    if passages > items:
        raise ConfigError(f"`passages` must not exceed the {items} items but got {passages}.")
    return Spread(
        languages=config.spread,
        seeds=config.seed_spread,
        items=statistics.item_spread(
            config.gain, config.discordant, items / passages, config.passage_correlation
        ),
    )


def _in_contrast(compared: Run, prefix: str, names: Iterable[str]) -> list[str]:
    """Names that consist of the prefix and the code of a related or control language."""
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


def _items_per_language(compared: Run) -> int:
    """Mean number of items of the languages compared; 0 if the evaluate runs do not record it."""
    counts = []
    for run_id in read_parts(compared, "cells"):
        try:
            metrics = tracking.metrics_of(mlflow.get_run(run_id))
        except MlflowException as error:  # permanently deleted since
            if not is_missing(error):
                raise
            continue
        counts += [
            metrics[name]
            for name in _in_contrast(compared, "n/", metrics)
            if f"gain/{name.removeprefix('n/')}" in compared.data.metrics
        ]
    return round(float(np.mean(counts))) if counts else 0
