"""What the steps that look into a tracking store cost, by seconds, statements and rows."""

import gc
import hashlib
import io
import logging
import os
import resource
import time
from collections.abc import Callable, Collection
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial

import mlflow
from mlflow.entities import Run

from benchmarks.scaling.filled_store import STUDY, study_config
from benchmarks.scaling.statements import counted
from isogloss.config import CompareConfig
from isogloss.registry.lookup import logged_model
from isogloss.registry.results import evaluation_results
from isogloss.stages.cell import cell_states
from isogloss.stages.collect_runs import collect_runs
from isogloss.stages.compare import run_compare
from isogloss.stages.study import run_study
from isogloss.tracking import RunKind, choose_experiment, find_finished, tag

WEEK = 7 * 24 * 3600


@dataclass(frozen=True)
class Cost:
    """One step: what it took."""

    step: str
    seconds: float
    selects: int
    writes: int
    rows: int
    peak_mb: float


def one_run(experiment_id: str) -> Run:
    """An evaluate run with an adapter, of the study that has artifacts."""
    study = f"tags.`isogloss.study` = '{STUDY}'"
    kind = "tags.`isogloss.kind` = 'evaluate' AND tags.`isogloss.condition` = 'tuned'"
    runs: list[Run] = mlflow.MlflowClient().search_runs(
        [experiment_id], f"{study} AND {kind}", max_results=1
    )
    return runs[0]


def steps(experiment_id: str) -> dict[str, Callable[[], object]]:
    """The measured steps by name, in the order in which they are measured."""
    run = one_run(experiment_id)
    fingerprint, adapter = str(tag(run, "fingerprint")), str(tag(run, "adapter"))
    unknown = hashlib.sha256(os.urandom(8)).hexdigest()
    chosen = CompareConfig(study=(STUDY,))
    margin = int(time.time()) % WEEK / WEEK / 10 + 0.01  # one that no comparison has had
    new = CompareConfig(study=(STUDY,), margin=margin)
    return {
        "skip check, finished": partial(
            find_finished, RunKind.EVALUATE, fingerprint, experiment_id
        ),
        "skip check, none": partial(find_finished, RunKind.EVALUATE, unknown, experiment_id),
        "logged model of an adapter": partial(logged_model, adapter),
        "results of an adapter": partial(evaluation_results, adapter),
        "runs of a study": partial(collect_runs, chosen),
        "study, all finished": partial(run_study, study_config()),
        "cells": partial(cell_states, study_config()),
        "compare, reused": partial(run_compare, chosen),
        "compare, new": partial(run_compare, new),
    }


def measure(repeats: int, only: Collection[str] = ()) -> list[Cost]:
    """Measure every step, or those of some names; the fastest of some repeats."""
    logging.getLogger("isogloss").setLevel(logging.ERROR)
    experiment_id = choose_experiment(None)
    costs = []
    for name, step in steps(experiment_id).items():
        if only and name not in only:
            continue
        tries = [_once(name, step) for _ in range(1 if name == "compare, new" else repeats)]
        costs.append(min(tries, key=lambda cost: cost.seconds))
    return costs


def _once(name: str, step: Callable[[], object]) -> Cost:
    gc.collect()
    with counted() as count, redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(name, round(seconds, 3), count.selects, count.writes, count.rows, round(peak))
