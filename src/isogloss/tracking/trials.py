"""Runs of trials: one child run of a search's run per trial, created when MLflow can be reached.

Metrics and description of a trial are on disk first (see `resume`). Any worker of the search sends
what another one, killed or cut off from the server, did not.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import LifecycleStage, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from pydantic import TypeAdapter, ValidationError

from isogloss.files import write_whole
from isogloss.tracking.metric_log import METRICS_PER_REQUEST, read_metrics
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.runs import PARENT_TAG
from isogloss.tracking.search import find_runs
from isogloss.tracking.tags import PREFIX, prefixed

logger = logging.getLogger(__name__)

TRIAL_FILE = "trial.json"
OF_ONE_TRIAL = (f"{PREFIX}kind", f"{PREFIX}trial", PARENT_TAG)  # tags


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
        # A process may have been killed after it created the run.
        own = {name: self.tags[name] for name in OF_ONE_TRIAL if name in self.tags}
        left = find_runs([self.experiment_id], own, status="RUNNING") if own else []
        run = (
            left[0]
            if left
            else client.create_run(
                self.experiment_id,
                start_time=self.started,
                tags=dict(self.tags),
                run_name=self.name,
            )
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
    client = mlflow.MlflowClient()
    if run is None:
        # A process that was killed while it deleted the folder had ended the run.
        if (begun := work.run_id) and client.get_run(begun).info.status == "RUNNING":
            client.set_terminated(begun, "FAILED")
        work.delete()
        return
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
    # First, for a process that is killed next: the description without the id makes a second run.
    (folder / TRIAL_FILE).unlink()
    work.delete()


def _read(folder: Path) -> TrialRun | None:
    """The description of a trial's run; None if there is none, or only a damaged one."""
    path = folder / TRIAL_FILE
    if not path.is_file():
        return None
    try:
        return TypeAdapter(TrialRun).validate_json(path.read_bytes())
    except ValidationError:
        logger.warning(f"{path} is damaged; the trial is not shown in MLflow")
        return None
