"""Runs of trials: one child run of a search's run per trial, created when MLflow can be reached.

Metrics and description of a trial are on disk first (see `resume`). Any worker of the search sends
what another one, killed or cut off from the server, did not.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import LifecycleStage, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from isogloss.files import write_whole
from isogloss.tracking.metric_log import METRICS_PER_REQUEST, read_metrics
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.tags import prefixed

TRIAL_FILE = "trial.json"


@dataclass(frozen=True)
class TrialRun:
    """Description of a trial's run, which may not exist yet; `started` is in milliseconds."""

    experiment_id: str
    name: str
    started: int
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the description to the trial's work folder."""
        write_whole(folder / TRIAL_FILE, json.dumps(asdict(self)).encode())

    def run_id(self, folder: Path) -> str:
        """The id of the run in the current store; creates the run if it is not there or deleted."""
        work = WorkDir(folder)
        client = mlflow.MlflowClient()
        if existing := work.run_id:
            try:
                info = client.get_run(existing).info
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
            else:
                if info.lifecycle_stage == LifecycleStage.ACTIVE:
                    return str(info.run_id)
        run = client.create_run(
            self.experiment_id, start_time=self.started, tags=dict(self.tags), run_name=self.name
        )
        work.record_run(run.info.run_id)
        client.log_batch(
            run.info.run_id, params=[Param(name, value) for name, value in self.params.items()]
        )
        return str(run.info.run_id)


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended: `complete`, `pruned` or `fail`, then with a reason.

    `ended` is in milliseconds, `duration` in seconds; both and `objective` are None if unknown.
    """

    number: int
    state: str
    objective: float | None = None
    ended: int | None = None
    duration: float | None = None
    reason: str | None = None

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the run, without their prefix."""
        reason = {} if self.reason is None else {"reason": self.reason}
        return {"trial": str(self.number), "state": self.state, **reason}

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the run."""
        values = {"duration": self.duration, "objective": self.objective}
        return {name: value for name, value in values.items() if value is not None}


def publish_trial(outcome: TrialOutcome, folder: Path) -> None:
    """Send a trial's metrics and outcome to its run, end the run, and delete the work folder.

    A trial that was killed before it had a description has no run.
    """
    work = WorkDir(folder)
    run = _read(folder)
    if run is None:
        work.delete()
        return
    client = mlflow.MlflowClient()
    run_id = run.run_id(folder)
    metrics = read_metrics(folder)
    for at in range(0, len(metrics), METRICS_PER_REQUEST):
        client.log_batch(run_id, metrics=metrics[at : at + METRICS_PER_REQUEST])
    ended = run.started if outcome.ended is None else outcome.ended
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, ended, 0) for name, value in outcome.metrics.items()],
        tags=[RunTag(name, value) for name, value in prefixed(outcome.tags).items()],
    )
    client.set_terminated(run_id, "FINISHED" if outcome.reason is None else "FAILED", ended)
    work.delete()


def _read(folder: Path) -> TrialRun | None:
    path = folder / TRIAL_FILE
    return TrialRun(**json.loads(path.read_text("utf-8"))) if path.is_file() else None
