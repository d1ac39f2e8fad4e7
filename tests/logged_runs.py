"""Evaluate runs as stages log them, from tables of predictions."""

from collections.abc import Iterable, Mapping

import mlflow
import pandas as pd

from isogloss import tracking
from isogloss.analysis.score_matrix import RunKey
from isogloss.types import Condition

TAGS = {
    "task": "belebele",
    "format": "letter",
    "normalisation": "none",
    "prompt_version": "2",
    "prompt_language": "english",
    "chat": "false",
    "dtype": "float32",
    "attention": "sdpa",
    "max_new_tokens": "8",
}


def run_tags(key: RunKey, **tags: str | None) -> dict[str, str]:
    """Tags of an evaluate run with their prefix; `tags` replace, add or (None) remove."""
    values: dict[str, str | None] = {
        **TAGS,
        "kind": "evaluate",
        "model": key.model,
        "revision": f"{key.model}-r1",
        "condition": key.condition,
        "reasoning": key.condition.reasoning if isinstance(key.condition, Condition) else "direct",
        "source": key.source or "arb_Arab",
        "seed": key.seed or None,
        "adapter": f"{key.model}{key.source}{key.seed}" if key.condition.tuned else "none",
        **tags,
    }
    return {f"isogloss.{name}": str(value) for name, value in values.items() if value is not None}


def log_run(key: RunKey, table: pd.DataFrame, status: str = "FINISHED", **tags: str | None) -> str:
    """Log one evaluate run with its predictions; return its id."""
    fingerprint = str(hash((key, len(table), tuple(sorted(tags.items())))))
    with mlflow.start_run() as run:
        mlflow.set_tags(run_tags(key, **{"fingerprint": fingerprint, **tags}))
        accuracy = table.groupby("language")["correct"].mean()
        mlflow.log_metrics({f"accuracy/{code}": float(value) for code, value in accuracy.items()})
        tracking.log_predictions(table)
    mlflow.MlflowClient().set_terminated(run.info.run_id, status)
    return str(run.info.run_id)


def log_runs(tables: Mapping[RunKey, pd.DataFrame], **tags: str | None) -> dict[RunKey, str]:
    """Log one evaluate run per table; return their ids."""
    return {key: log_run(key, table, **tags) for key, table in tables.items()}


def log_study(cells: Iterable[str], status: str = "FINISHED", **tags: str) -> str:
    """Log a run of study `s` that has these evaluate runs; return its id."""
    with mlflow.start_run() as run:
        values = {"kind": "study", "study": "s", "cells": " ".join(cells), **tags}
        mlflow.set_tags({f"isogloss.{name}": value for name, value in values.items()})
    mlflow.MlflowClient().set_terminated(run.info.run_id, status)
    return str(run.info.run_id)
