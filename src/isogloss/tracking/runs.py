"""Tracking: what a run leaves in MLflow, and how a finished one is found again.

The tags `isogloss.*` are a contract (see docs/reference/runs.md). A finished run with the same
fingerprint is reused and never recomputed; the fingerprint covers everything that decides the
result.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow.parquet
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pydantic import BaseModel

from isogloss.config import as_text
from isogloss.errors import ComparisonError, ConfigError, TrackingError
from isogloss.tasks import Item
from isogloss.tracking.resume import UNREACHABLE, Work, claim, few_retries, uploading

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions.parquet"


def fingerprint(**facts: Any) -> str:
    """Hexadecimal sha256 of facts that decide a result; they must be JSON."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def data_digest(items: Sequence[Item]) -> str:
    """Hexadecimal sha256 of all that items say, in order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(asdict(item), ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


@contextmanager
def run(
    kind: str,
    name: str,
    config: BaseModel,
    tags: Mapping[str, str | None],
    experiment: str | None = None,
    work: Work | None = None,
) -> Iterator[Run]:
    """Open a run: the one that unfinished `work` was begun in, else the one `mlflow run` made, else
    a child of the open one, else a new one.

    `tags` are given without their prefix `isogloss.`; those that are None are left out. The
    configuration is logged as parameters and as config.json.
    """
    experiment_id = choose_experiment(experiment)
    earlier = work.run_id if work else None
    if earlier and not _can_go_on(earlier, experiment_id):
        earlier = None
    if earlier:
        point_to(earlier, "resumes")
        logger.info(f"{name}: going on in run {earlier}")
    adopted = mlflow.active_run() is None and "MLFLOW_RUN_ID" in os.environ
    labels = {"kind": kind, **tags}
    active = mlflow.start_run(
        run_id=earlier,
        run_name=None if adopted or earlier else name,
        nested=mlflow.active_run() is not None,
    )
    try:
        if work:
            work.belongs_to(active.info.run_id)
        if adopted:
            mlflow.set_tag("mlflow.runName", name)
        mlflow.set_tags({f"isogloss.{key}": value for key, value in labels.items() if value})
        values = config.model_dump(mode="json")
        mlflow.log_dict(values, "config.json")
        known = active.data.params  # `mlflow run` has logged its own; a second value would raise
        mlflow.log_params(
            {key: as_text(key, value) for key, value in values.items() if key not in known}
        )
        yield active
    except BaseException as error:
        _end_failed(error)
        raise
    with uploading(work.folder) if work else nullcontext():
        mlflow.end_run()


def _can_go_on(run_id: str, experiment_id: str) -> bool:
    """Whether a run is in this store and experiment, and not deleted."""
    try:
        info = mlflow.get_run(run_id).info
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return bool(info.lifecycle_stage == "active" and info.experiment_id == experiment_id)


def _end_failed(error: BaseException) -> None:
    """End the open run as failed, and hide no error by another of a server that is gone."""
    waited = few_retries() if isinstance(error, TrackingError) else nullcontext()
    with suppress(*UNREACHABLE), waited:
        mlflow.end_run("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")


def choose_experiment(experiment: str | None) -> str:
    """Make runs go to that experiment and return its id.

    Inside `mlflow run` the experiment is the one the run is in: another one is refused.
    """
    active = mlflow.active_run()
    run_id = active.info.run_id if active else os.environ.get("MLFLOW_RUN_ID")
    if run_id is None:
        if experiment is not None:
            return str(mlflow.set_experiment(experiment).experiment_id)
        if "MLFLOW_EXPERIMENT_ID" in os.environ:
            return os.environ["MLFLOW_EXPERIMENT_ID"]
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
        return str(mlflow.set_experiment(name).experiment_id)
    where = str(mlflow.get_run(run_id).info.experiment_id)
    if experiment is not None and mlflow.get_experiment(where).name != experiment:
        raise ConfigError(
            f"experiment {experiment!r} is not the one this run is in; under `mlflow run` choose "
            f"it with --experiment-name {experiment!r}."
        )
    return where


def find_finished(kind: str, fingerprint: str, experiment_id: str) -> Run | None:
    """The newest finished run of that kind and fingerprint, if there is one."""
    runs = mlflow.search_runs(
        [experiment_id],
        filter_string=(
            f"tags.`isogloss.kind` = '{kind}' AND tags.`isogloss.fingerprint` = '{fingerprint}' "
            "AND attributes.status = 'FINISHED'"
        ),
        max_results=1,
        output_format="list",
    )
    return runs[0] if runs else None


@contextmanager
def once(
    kind: str, fingerprint: str, experiment: str | None, study: str | None
) -> Iterator[tuple[Work, Run | None]]:
    """Do a piece of work once: the work, which no other process is at, and the finished run that
    has done it, if there is one.

    What is unfinished of it is deleted when the context ends without an error.
    """
    with claim(kind, fingerprint) as work:
        found = find_finished(kind, fingerprint, choose_experiment(experiment))
        if found:
            note_reuse(found, study)
        yield work, found
        work.done()


def note_reuse(found: Run, study: str | None = None) -> None:
    """Make a finished run part of another study too.

    If `mlflow run` has opened a run for this work, it is told which one has the result.
    """
    if study is not None and study not in studies_of(found):
        names = "\n".join([*studies_of(found), study])
        mlflow.MlflowClient().set_tag(found.info.run_id, "isogloss.studies", names)
    point_to(found.info.run_id, "reuses")


def point_to(run_id: str, how: str) -> None:
    """If `mlflow run` has opened a run, tell it which one has the work: tag `isogloss.HOW`."""
    if mlflow.active_run() is None and "MLFLOW_RUN_ID" in os.environ:
        with mlflow.start_run():
            mlflow.set_tag(f"isogloss.{how}", run_id)


def studies_of(run: Run) -> list[str]:
    """The studies a run belongs to: the one it was made for, and those that have reused it."""
    tags = run.data.tags
    own = [tags["isogloss.study"]] if "isogloss.study" in tags else []
    return list(dict.fromkeys(own + tags.get("isogloss.studies", "").splitlines()))


def log_items(items: Sequence[Item], task: str, split: str) -> Any:
    """Log the items as an input data set of the run; return it."""
    columns = pd.DataFrame([asdict(item) for item in items])
    data_set = mlflow.data.from_pandas(
        columns, name=f"{task}-{split}", digest=data_digest(items)[:36]
    )
    mlflow.log_input(data_set, context=split)
    return data_set


def log_predictions(predictions: pd.DataFrame) -> None:
    """Log predictions.parquet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PREDICTIONS
        predictions.to_parquet(path, index=False)
        mlflow.log_artifact(str(path))


def read_predictions(run_id: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read predictions.parquet of an evaluate run, or those of `columns` that it has.

    ComparisonError if the run has no such file.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=PREDICTIONS, dst_path=folder
            )
        except (MlflowException, OSError) as error:
            raise ComparisonError(f"run {run_id!r} has no {PREDICTIONS}.") from error
        if columns is not None:
            known = pyarrow.parquet.read_schema(path).names
            columns = [column for column in columns if column in known]
        return pd.read_parquet(path, columns=columns)


def artifact_path(found: Run, name: str) -> str:
    """Where an artifact of a run is: a path if it is on this machine, else its URI."""
    uri = f"{found.info.artifact_uri}/{name}"
    return uri.removeprefix("file://")
