"""launcher=ray: the cells of a study side by side, on workers that load one model each.

A worker is a Ray actor that takes the resources of its model, runs cells of that model one after
another and ends when none is ready. Ray itself retries nothing: what a lost worker was doing is
tried again here, a limited number of times, by another one. A cell that two attempts run at the
same time is still done once, as with any other launcher (see `stages.cell`).
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import mlflow

from isogloss.config import StudyConfig
from isogloss.errors import ProcessError
from isogloss.files import sqlite_file
from isogloss.launchers import ray_cluster
from isogloss.launchers.cell_queue import CellQueue
from isogloss.launchers.ray_driver import Driver
from isogloss.launchers.ray_resources import Demand, demands
from isogloss.launchers.ray_worker import Settings
from isogloss.stages.remaining import Remaining, study_weights
from isogloss.stages.session import Session
from isogloss.stages.study import RunCells, StudyRuns
from isogloss.stages.study_cells import EvaluateCell, FinetuneCell, StudyCell, study_models
from isogloss.tracking.ending import insist
from isogloss.tracking.experiments import EXPERIMENT_ID, EXPERIMENT_NAME, PROJECT_RUN
from isogloss.tracking.leases import say_local_exclusion
from isogloss.tracking.runs import active_run, end_children

logger = logging.getLogger(__name__)

# Beginnings of variables that workers get.
PASSED = ("AWS_", "HF_", "ISOGLOSS_", "MLFLOW_", "PGPASSWORD", "TOKENIZERS_", "TRANSFORMERS_")
NOT_PASSED = (EXPERIMENT_ID, EXPERIMENT_NAME, PROJECT_RUN)  # of this process's own run


@contextmanager
def on_ray(config: StudyConfig) -> Iterator[RunCells]:
    """Connect to a cluster for a study, and yield the function that runs its cells there.

    Raises ConfigError if there is no Ray, or if the cluster cannot run the study.
    """
    with ray_cluster.connected():
        cluster = ray_cluster.nodes()
        ray_cluster.check_store(cluster)
        asked = demands(config, cluster)
        _log_cluster(cluster, asked)
        if len({node.host for node in cluster}) > 1:
            say_local_exclusion()
        yield partial(_run_cells, config, asked, _settings(config))


def _log_cluster(cluster: Sequence[ray_cluster.Node], asked: Mapping[str, Demand]) -> None:
    gpus = sum(node.gpus for node in cluster)
    logger.info(
        f"Ray: {len(cluster)} nodes with {sum(node.cpus for node in cluster):g} CPUs"
        f"{f' and {gpus:g} GPUs' if gpus else ''}"
    )
    for model, demand in asked.items():
        logger.info(f"a worker of {model} takes {demand.text}")


def _settings(config: StudyConfig) -> Settings:
    """What workers are given of this process: variables, folder, verbosity."""
    engines = [config.engine, *(model.engine for model in study_models(config))]
    keys = {engine.key for engine in engines if engine is not None}
    variables = {
        name: value
        for name, value in os.environ.items()
        if (name.startswith(PASSED) or name in keys) and name not in NOT_PASSED
    }
    uri = mlflow.get_tracking_uri()
    path = sqlite_file(uri)
    variables["MLFLOW_TRACKING_URI"] = uri if path is None else f"sqlite:///{path.absolute()}"
    return Settings(variables, os.getcwd(), logging.getLogger("isogloss").getEffectiveLevel())


def _run_cells(
    config: StudyConfig,
    asked: Mapping[str, Demand],
    settings: Settings,
    cells: Sequence[StudyCell],
    sessions: Mapping[str, Session],
    unusable: Mapping[StudyCell, str],
) -> StudyRuns:
    """Run the cells that are not `unusable` as children of the active run."""
    from ray.exceptions import RayError

    queue = CellQueue.of(cells, unusable)
    parent = active_run().info.run_id
    names = {
        cell: f"cell {number} of {len(cells)} · {cell.label}"
        for number, cell in enumerate(cells, 1)
    }
    usable = [cell for cell in cells if cell not in queue.failed]
    remaining = Remaining(usable, partial(study_weights, config, cells, sessions))
    driver = Driver(queue, asked, settings, parent, names, remaining)
    try:
        driver.work()
    except RayError as error:
        raise ProcessError(
            f"the Ray cluster does not answer ({type(error).__name__}); the same command runs what "
            "is missing."
        ) from error
    finally:
        driver.stop()
        insist(partial(end_children, parent, "FAILED" if queue.finished else "KILLED"))
    return StudyRuns(
        {cell: run for cell, run in driver.runs.items() if isinstance(cell, FinetuneCell)},
        {cell: run for cell, run in driver.runs.items() if isinstance(cell, EvaluateCell)},
        {cell: queue.failed[cell] for cell in cells if cell in queue.failed},
    )
