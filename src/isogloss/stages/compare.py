"""The compare step: pull evaluate runs, judge them, log the report as a run of its own."""

import logging
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow.entities import Run

from isogloss import __version__, tracking
from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.config import CompareConfig
from isogloss.errors import ConfigError
from isogloss.report.omissions import omission_sentence
from isogloss.report.page import write
from isogloss.report.verdict import note
from isogloss.stages.collect_runs import Pulled, pull, read, source_of, tag
from isogloss.tracking import RunKind

logger = logging.getLogger(__name__)

REPORT = "report/report.html"
LONGEST_TAG = 5000  # what every MLflow server takes
SHARED_TAGS = ("task", "format", "prompt_version", "prompt_language")


def judge(pulled: Pulled, config: CompareConfig, experiment: str | None = None) -> Run:
    """Judge evaluate runs; return the run with verdict, numbers, figures and report.

    `experiment` is where that run goes. Raises ComparisonError if nothing can be said of the runs.
    """
    if config.against == config.condition:
        raise ConfigError(f"condition {config.condition.value!r} cannot be compared with itself.")
    source = source_of(pulled, config)
    fingerprint = tracking.fingerprint(
        kind="compare",
        runs=[
            [*cell, tag(run, "fingerprint")] for cell, runs in pulled.cells.items() for run in runs
        ],
        source=source,
        condition=config.condition,
        against=config.against,
        branch=config.branch,
        margin=config.margin,
        left_out=[omission_sentence(omission) for omission in pulled.omissions],
        version=__version__,
    )
    study = ",".join(config.study) if config.study else None
    if found := tracking.find_finished(
        RunKind.COMPARE, fingerprint, tracking.choose_experiment(experiment)
    ):
        logger.info(f"compare: reusing run {found.info.run_id}")
        tracking.record_reuse(found, study)
        return found
    comparison = compare(
        read(pulled),
        source=source,
        margin=config.margin,
        branch=config.branch,
        condition=config.condition,
        against=config.against,
        omissions=pulled.omissions,
    )
    tags = {name: tag(pulled.runs[0], name) for name in SHARED_TAGS} | {
        "model": ", ".join(model.label for model in comparison.models),
        "source": source,
        "adapter": _adapter(pulled, config, source),
        "reasoning": config.condition.reasoning,
        "condition": config.condition,
        "against": config.against,
        "study": study,
        "fingerprint": fingerprint,
        "verdict": comparison.contrast.verdict,
        "cells": " ".join(run.info.run_id for run in pulled.runs),
    }
    tags |= {
        f"verdict_{name}": verdict for name, verdict in claim_verdicts(comparison).by_claim.items()
    }
    name = f"compare {config.condition} to {config.against}"
    with (
        tracking.open_run(RunKind.COMPARE, name, config, tags, experiment) as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        write(comparison, Path(folder), _provenance(comparison, pulled, study), _pulled(pulled))
        mlflow.log_artifacts(folder, "report")
        mlflow.log_metrics(comparison_metrics(comparison))
        mlflow.set_tag("mlflow.note.content", note(comparison)[:LONGEST_TAG])
    return mlflow.get_run(run.info.run_id)


def _adapter(pulled: Pulled, config: CompareConfig, source: str) -> str:
    """The judged adapter's digest, `none` or `several`."""
    adapters = {
        tag(run, "adapter") or "none"
        for cell, runs in pulled.cells.items()
        if cell.condition == config.condition and cell.source in ("", source)
        for run in runs
    }
    return adapters.pop() if len(adapters) == 1 else "several"


def _provenance(comparison: Comparison, pulled: Pulled, study: str | None) -> dict[str, str]:
    def every(name: str) -> str:
        values = (tag(run, name) for run in pulled.runs)
        return "; ".join(dict.fromkeys(value for value in values if value))

    facts = {
        "study": study or "none",
        "task": f"{comparison.task}, {comparison.format} format",
        "prompt version": every("prompt_version"),
        "language of the prompt": every("prompt_language"),
        "test data (sha256)": every("data_digest"),
        "recipe of fine-tuning": every("recipe"),
        "matrix products": every("dtype"),
        "attention": every("attention"),
        "versions": ", ".join(
            [
                f"isogloss {__version__}",
                *(f"{name} {version(name)}" for name in ("mlflow", "numpy", "scipy", "pandas")),
            ]
        ),
    }
    return {name: value for name, value in facts.items() if value}


def _pulled(pulled: Pulled) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("Model", "Condition", "Source", "Seed", "Adapter", "Languages", "Run")
    ]
    for cell, runs in pulled.cells.items():
        for run in runs:
            names = {name for name in run.data.metrics if name.startswith("accuracy/")}
            n_languages = str(len(names - {"accuracy/mean"}))
            adapter = (tag(run, "adapter") or "none")[:12]
            source = cell.source or "none"
            rows.append((*cell[:2], source, cell.seed, adapter, n_languages, run.info.run_id))
    return rows


def print_verdict(run: Run) -> None:
    """Print the verdict and the claims, and where the report is."""
    print(f"\n{run.data.tags['mlflow.note.content']}\n")
    print(f"report: {tracking.artifact_path(run, REPORT)}")


def run_compare(config: CompareConfig) -> str:
    """The entry point `compare`; returns the id of the compare run."""
    pulled = pull(config)
    # `mlflow run` has chosen where this run is; `experiment` says where to look for the others.
    here = None
    if config.experiment and "MLFLOW_RUN_ID" not in os.environ:
        here = config.experiment[0]
    run = judge(pulled, config, here)
    print_verdict(run)
    return str(run.info.run_id)
