"""Opening runs: new ones, interrupted ones and the one that `mlflow run` has opened."""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import mlflow
from mlflow import ActiveRun
from mlflow.data.dataset import Dataset
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException
from pydantic import BaseModel

from isogloss.config import as_text
from isogloss.errors import TrackingError
from isogloss.process_ids import this_process
from isogloss.tracking.artifacts import (
    delete_partial_artifacts,
    require_reachable_artifacts,
    writing_artifacts,
)
from isogloss.tracking.ending import (
    PROCESS,
    REASON,
    Ending,
    Opening,
    finish,
    hold_reserve,
)
from isogloss.tracking.experiments import PROJECT_RUN, choose_experiment, missing, parent_run
from isogloss.tracking.project_run import Link, link_project_run, name_project_run
from isogloss.tracking.resume import Resumable
from isogloss.tracking.server import shown_uri, uploading
from isogloss.tracking.tags import RunKind, prefixed

logger = logging.getLogger(__name__)

PARENT_TAG = "mlflow.parentRunId"


@contextmanager
def child_of(run_id: str) -> Iterator[None]:
    """Context in which runs become children of a run that another process has open.

    They are in its experiment. The run that `mlflow run` has opened is not taken. ConfigError if
    there is no such run.
    """
    with missing(f"parent is {run_id!r}, but MLflow at {shown_uri()} has no such run"):
        mlflow.get_run(run_id)
    token = parent_run.set(run_id)
    project_run = os.environ.pop(PROJECT_RUN, None)
    try:
        yield
    finally:
        parent_run.reset(token)
        if project_run is not None:
            os.environ[PROJECT_RUN] = project_run


@contextmanager
def open_run(
    kind: RunKind,
    name: str,
    config: BaseModel,
    tags: Mapping[str, str | None],
    experiment: str | None = None,
    work: Resumable | None = None,
) -> Iterator[Run]:
    """Open a run within a context and end it.

    Resumes the run that `work` was started in. Otherwise takes the run that `mlflow run` has
    opened, else opens a child of the active run or of the one in `child_of`, else a new run. Names
    in `tags` have no prefix; tags without a value are left out. The configuration is logged as
    parameters and config.json.
    """
    experiment_id = choose_experiment(experiment)
    interrupted = work.run_id if work else None
    if interrupted and not _can_resume(interrupted, experiment_id):
        interrupted = None
    if interrupted:
        link_project_run(mlflow.get_run(interrupted), Link.RESUMES)
        logger.info(f"{name}: resuming the run that was interrupted")
    require_reachable_artifacts(experiment_id)
    active = mlflow.active_run()
    adopted = active is None and PROJECT_RUN in os.environ
    if adopted and not interrupted:
        name_project_run(name)
    parent = active.info.run_id if active else parent_run.get()
    values = {"kind": kind, **tags, PROCESS: this_process()}
    # Set as the run is created: one that is killed next is found by them (see `reuse`).
    own = prefixed({key: value for key, value in values.items() if value})
    opening = Opening(experiment_id, interrupted, active.info.run_id if active else None, own)
    ending = Ending(opening, work)
    hold_reserve()
    try:
        run = mlflow.start_run(
            run_id=interrupted,
            run_name=None if adopted or interrupted else name,
            nested=active is not None,
            parent_run_id=parent,
            tags=own,
        )
        ending.run_id = run_id = run.info.run_id
        if not run_id:
            raise TrackingError(
                f"MLflow at {shown_uri()} answers, but opens no run; see MLFLOW_TRACKING_URI and "
                "the proxy in front of it."
            )
        if work:
            work.record_run(run_id)
        if interrupted:
            delete_partial_artifacts(run.info.artifact_uri)
        if interrupted and parent:  # it was the child of a run that has ended
            mlflow.set_tag(PARENT_TAG, parent)
        _log_config(config, run)
        yield run
        if work:
            work.lease.commit(run_id)
        ending.whole = True
        with uploading(work.folder) if work else nullcontext():
            finish(run_id)
    except BaseException as error:
        ending.end(error)
        raise


def end_children(run_id: str, status: str) -> None:
    """End the runs below a run that are still open, because their processes were lost."""
    client = mlflow.MlflowClient()
    experiment_id = client.get_run(run_id).info.experiment_id
    running = f"tags.`{PARENT_TAG}` = '{run_id}' AND attributes.status = 'RUNNING'"
    for child in client.search_runs([experiment_id], running):
        client.set_tag(child.info.run_id, REASON, "its process ended")
        client.set_terminated(child.info.run_id, status)


def active_run() -> ActiveRun:
    """The open run of this thread, which the caller has opened."""
    run = mlflow.active_run()
    if run is None:
        raise RuntimeError("no run is open.")
    return run


def log_metrics_once(
    values: Mapping[str, float],
    dataset: Dataset | None = None,
    model_id: str | None = None,
    step: int = 0,
) -> None:
    """Log metrics to the active run and a model, but not those that a killed process has logged."""
    run_id = active_run().info.run_id
    in_run = mlflow.get_run(run_id).data.metrics
    known: dict[str, Metric] = {}
    for name in values.keys() & in_run.keys():
        logged = _logged(run_id, Metric(name, values[name], 0, step))
        known |= {name: logged} if logged else {}
    new = {name: value for name, value in values.items() if name not in known}
    if new:
        mlflow.log_metrics(new, dataset=dataset, model_id=model_id, step=step)
    if model_id and known:  # MLflow writes them to the run first
        metrics = mlflow.get_logged_model(model_id).metrics or ()
        in_model = {metric.key for metric in metrics if metric.run_id == run_id}
        for name in known.keys() - in_model:
            mlflow.log_metric(  # the run has it already, if the time is the same
                name, values[name], step=step, timestamp=known[name].timestamp,
                model_id=model_id, dataset=dataset,
            )  # fmt: skip


def _logged(run_id: str, metric: Metric) -> Metric | None:
    """The metric of a run that has the name, step and value of another; None without one."""
    for known in mlflow.MlflowClient().get_metric_history(run_id, metric.key):
        both_nan = math.isnan(known.value) and math.isnan(metric.value)
        if known.step == metric.step and (both_nan or known.value == metric.value):
            return known
    return None


def _log_config(config: BaseModel, run: Run) -> None:
    values = config.model_dump(mode="json")
    with writing_artifacts(run):
        mlflow.log_dict(values, "config.json")
    logged = run.data.params  # `mlflow run` has logged its own; a second value would raise
    mlflow.log_params(
        {key: as_text(key, value) for key, value in values.items() if key not in logged}
    )


def _can_resume(run_id: str, experiment_id: str) -> bool:
    """Whether a run is in this store and experiment and not deleted."""
    try:
        info = mlflow.get_run(run_id).info
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return bool(info.lifecycle_stage == "active" and info.experiment_id == experiment_id)
