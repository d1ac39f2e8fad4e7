"""The experiments of runs: the one that new runs go to, and those whose runs are read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import mlflow
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException

from isogloss.config.words import LONGEST_NAME
from isogloss.errors import ConfigError, TrackingError
from isogloss.tracking.server import is_missing, shown_uri
from isogloss.tracking.shared_rows import insert_shared

PROJECT_RUN = "MLFLOW_RUN_ID"  # set by `mlflow run`
EXPERIMENT_ID = "MLFLOW_EXPERIMENT_ID"
EXPERIMENT_NAME = "MLFLOW_EXPERIMENT_NAME"
LONGEST_ID = 18  # digits of an id in a database

OWN = "isogloss"  # the experiment of new runs, where nothing names another one
# MLflow's own: `mlflow run` takes it where isogloss is not installed, and earlier versions did.
MLFLOWS = "Default"
# What MLflow's UI shows first: training runs, with their metrics as columns.
KIND_TAG = "mlflow.experimentKind"
TRAINING_RUNS = "custom_model_development"

# The parent of new runs, where another process has opened it.
parent_run: ContextVar[str | None] = ContextVar("parent", default=None)


def choose_experiment(experiment: str | None) -> str:
    """Select the experiment of new runs and return its id.

    Under `mlflow run` it is that of the run it has opened. ConfigError for another one, and for an
    experiment or run of the environment that the store does not have or that is deleted.
    """
    active = mlflow.active_run()
    run_id = active.info.run_id if active else os.environ.get(PROJECT_RUN)
    if run_id is None and (parent := parent_run.get()):
        experiment_id = _experiment_of_run(parent, experiment)
        mlflow.set_experiment(experiment_id=experiment_id)
        return experiment_id
    if run_id is not None:
        return _experiment_of_run(run_id, experiment)
    if experiment is None and (selected := os.environ.get(EXPERIMENT_ID)):
        _refuse_long(EXPERIMENT_ID, selected, LONGEST_ID)
        return _experiment_of_environment(selected)
    named = os.environ.get(EXPERIMENT_NAME)
    _refuse_long(EXPERIMENT_NAME, named or "", LONGEST_NAME)
    return _set_experiment(experiment or named or OWN)


def _refuse_long(variable: str, value: str, longest: int) -> None:
    if len(value) > longest:
        raise ConfigError(f"{variable} has {len(value)} characters; expected {longest} at most.")


def _experiment_of_run(run_id: str, experiment: str | None) -> str:
    with missing(f"{PROJECT_RUN} is {run_id!r}, but MLflow at {shown_uri()} has no such run"):
        info = mlflow.get_run(run_id).info
    if info.lifecycle_stage == LifecycleStage.DELETED:
        raise ConfigError(f"{PROJECT_RUN} is {run_id!r}, which is deleted; restore or unset it.")
    experiment_id = str(info.experiment_id)
    if experiment is not None and mlflow.get_experiment(experiment_id).name != experiment:
        raise ConfigError(
            f"experiment {experiment!r} is not the one this run is in; under `mlflow run` choose "
            f"it with --experiment-name {experiment!r}."
        )
    return experiment_id


def _experiment_of_environment(experiment_id: str) -> str:
    with missing(
        f"{EXPERIMENT_ID} is {experiment_id!r}, but MLflow at {shown_uri()} has no such experiment"
    ):
        _refuse_deleted(mlflow.get_experiment(experiment_id))
    return experiment_id


def _set_experiment(name: str) -> str:
    """Select an experiment by name; creates it if there is none."""
    found = mlflow.get_experiment_by_name(name)
    if found is not None and not found.experiment_id:  # an empty answer, of a proxy for instance
        raise TrackingError(
            f"MLflow at {shown_uri()} answers, but names no experiment; see MLFLOW_TRACKING_URI "
            "and the proxy in front of it."
        )
    if found is not None:
        _refuse_deleted(found)
        if name == OWN and KIND_TAG not in found.tags:
            client, own = mlflow.MlflowClient(), found.experiment_id
            insert_shared(lambda: client.set_experiment_tag(own, KIND_TAG, TRAINING_RUNS))
    experiment_id = str(found.experiment_id) if found else _created(name)
    mlflow.set_experiment(experiment_id=experiment_id)
    return experiment_id


def _created(name: str) -> str:
    """The id of a new experiment, or of the one that another process creates meanwhile."""
    try:
        return str(mlflow.MlflowClient().create_experiment(name, tags={KIND_TAG: TRAINING_RUNS}))
    except MlflowException:
        created = mlflow.get_experiment_by_name(name)
        if created is None:
            raise
        return str(created.experiment_id)


def _refuse_deleted(experiment: Experiment) -> None:
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise ConfigError(
            f"experiment {experiment.name!r} is deleted; choose another, or run `mlflow "
            f"experiments restore -x {experiment.experiment_id}`."
        )


def own_experiment() -> str:
    """The id of isogloss's own experiment, created if there is none; nothing is selected.

    ConfigError if it is deleted.
    """
    found = mlflow.get_experiment_by_name(OWN)
    if found is not None:
        _refuse_deleted(found)
        return str(found.experiment_id)
    return _created(OWN)


def searched_with(experiment_id: str) -> list[str]:
    """The experiments in which the results of an experiment are looked for, itself first.

    isogloss's own and MLflow's `Default` are searched together, since runs may lie in both.
    """
    name = mlflow.get_experiment(experiment_id).name
    other = {OWN: MLFLOWS, MLFLOWS: OWN}.get(name)
    found = mlflow.get_experiment_by_name(other) if other else None
    if found is None or found.lifecycle_stage == LifecycleStage.DELETED:
        return [experiment_id]
    return [experiment_id, str(found.experiment_id)]


@contextmanager
def missing(message: str) -> Iterator[None]:
    """Context in which an id is looked up that a user gave; ConfigError if MLflow has none such."""
    try:
        yield
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise ConfigError(f"{message}.") from error
