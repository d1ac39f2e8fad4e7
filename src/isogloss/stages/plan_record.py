"""The run of a plan: metrics, table and figure, logged after the answer has been printed."""

import math
from dataclasses import asdict
from typing import NamedTuple

import mlflow
import pandas as pd
from matplotlib.figure import Figure

from isogloss import tracking
from isogloss.analysis.frames import csv_text
from isogloss.config import PlanConfig
from isogloss.report.crossed_power import CrossedPlan
from isogloss.report.crossed_power import sentences as crossed_sentences
from isogloss.report.power import Plan, sentences
from isogloss.report.power_figures import crossed_plan_figure, plan_figure
from isogloss.stats import power as statistics
from isogloss.tracking import RunKind

METRICS = ("significant", "minimum_detectable_effect", "power", "equivalence")
TABLE, FIGURE, DPI = "plan.csv", "power.png", 160


class LoggedPlan(NamedTuple):
    """What a plan leaves in its run, and the name of the run."""

    name: str
    metrics: dict[str, float]
    table: pd.DataFrame
    figure: Figure
    note: str


def record(planned: Plan | CrossedPlan, config: PlanConfig) -> str:
    """Log a plan as a run, print where its figure is, return the id of the run."""
    logged = _crossed(planned) if isinstance(planned, CrossedPlan) else _of_one_source(planned)
    with tracking.open_run(
        RunKind.PLAN, logged.name, config, {"study": config.study}, config.experiment
    ) as run:
        mlflow.log_metrics(logged.metrics)
        mlflow.log_text(csv_text(logged.table), TABLE)
        mlflow.log_figure(logged.figure, FIGURE, save_kwargs={"dpi": DPI})
        mlflow.set_tag("mlflow.note.content", logged.note)
    print(f"figure: {tracking.artifact_path(run, FIGURE)}")
    return str(run.info.run_id)


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


def crossed_table(plan: CrossedPlan) -> pd.DataFrame:
    """One row per design, with the fields of CrossedPower and DesignCost."""
    return pd.DataFrame([asdict(outlook.power) | asdict(outlook.cost) for outlook in plan.outlooks])


def crossed_metrics(plan: CrossedPlan) -> dict[str, float]:
    """Finite numbers by name and number of sources."""
    values = {
        f"plan/{name}/sources-{outlook.power.sources}": float(getattr(outlook.power, name))
        for outlook in plan.outlooks
        for name in METRICS
    }
    values |= {
        f"plan/evaluations/sources-{outlook.power.sources}": float(outlook.cost.evaluations)
        for outlook in plan.outlooks
    }
    values |= {
        "plan/spread_of_languages": plan.spread.languages,
        "plan/spread_of_branches": plan.spread.branches,
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _of_one_source(planned: Plan) -> LoggedPlan:
    return LoggedPlan(
        f"plan {planned.related} related languages",
        metrics(planned),
        table(planned),
        plan_figure(planned),
        "\n".join(sentences(planned)),
    )


def _crossed(planned: CrossedPlan) -> LoggedPlan:
    return LoggedPlan(
        f"plan {planned.best.power.sources} sources",
        crossed_metrics(planned),
        crossed_table(planned),
        crossed_plan_figure(planned),
        "\n".join(crossed_sentences(planned)),
    )
