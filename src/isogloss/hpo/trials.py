"""Runs of trials: each trial of a search is a run below the search's, sent when MLflow can be had.

What a trial has measured is on disk first (see `unfinished`); whoever goes on with the search sends
what another worker, killed or cut off, could not.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from isogloss.files import write_whole
from isogloss.tracking.metric_log import METRICS_PER_REQUEST, read_metrics
from isogloss.tracking.resume import WorkDir

TRIAL = "trial.json"


@dataclass(frozen=True)
class TrialRun:
    """The run of one trial, made when there is something to send. `started` is in milliseconds."""

    experiment_id: str
    name: str
    started: int
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Put it into the folder of the trial's unfinished work."""
        write_whole(folder / TRIAL, json.dumps(asdict(self)).encode())

    def run_id(self, folder: Path) -> str:
        """The id of the run in this store; makes it if there is none."""
        work = WorkDir(folder)
        client = mlflow.MlflowClient()
        if earlier := work.run_id:
            try:
                return str(client.get_run(earlier).info.run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        run = client.create_run(
            self.experiment_id, start_time=self.started, tags=dict(self.tags), run_name=self.name
        )
        work.record_run(run.info.run_id)
        client.log_batch(
            run.info.run_id, params=[Param(key, value) for key, value in self.params.items()]
        )
        return str(run.info.run_id)


def read_trial_run(folder: Path) -> TrialRun | None:
    """What the folder of a trial says of its run; None if it was killed before it said anything."""
    path = folder / TRIAL
    return TrialRun(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def publish(trial: FrozenTrial, folder: Path, retried: Mapping[int, int]) -> None:
    """Bring the run of an ended trial up to date, end it, and delete the trial's folder.

    `retried` tells, of killed trials, which one is their next attempt.
    """
    work = WorkDir(folder)
    if (run := read_trial_run(folder)) is None:
        work.delete()
        return
    client = mlflow.MlflowClient()
    run_id = run.run_id(folder)
    metrics = read_metrics(folder)
    for at in range(0, len(metrics), METRICS_PER_REQUEST):
        client.log_batch(run_id, metrics=metrics[at : at + METRICS_PER_REQUEST])
    ended = run.started
    values: dict[str, float] = {}
    if trial.datetime_complete is not None:
        ended = int(trial.datetime_complete.timestamp() * 1000)
    if trial.duration is not None:
        values["duration"] = trial.duration.total_seconds()
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        values["objective"] = trial.value
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, ended, 0) for key, value in values.items()],
        tags=[RunTag(f"isogloss.{key}", value) for key, value in outcome(trial, retried).items()],
    )
    failed = trial.state == TrialState.FAIL
    client.set_terminated(run_id, "FAILED" if failed else "FINISHED", ended)
    work.delete()


def outcome(trial: FrozenTrial, retried: Mapping[int, int]) -> dict[str, str]:
    """State of an ended trial and, if it failed, the reason, as tags."""
    tags = {"trial": str(trial.number), "state": trial.state.name.lower()}
    if trial.state == TrialState.FAIL:
        reason = trial.user_attrs.get("reason", "its worker was killed or interrupted")
        if trial.number in retried:
            reason += f"; tried again as trial {retried[trial.number]}"
        tags["reason"] = reason
    return tags
