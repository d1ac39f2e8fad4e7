"""The MLflow project backend `isogloss-slurm`: a study as job arrays, other entry points as a job.

    mlflow run . --backend isogloss-slurm --backend-config slurm.json -P study=configs/demo.yaml

The run that it opens becomes the study's: cells are its children, and the last job, which runs
`main`, compares them in it. `main` reuses finished cells, so it also does what is missing.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path

import mlflow
from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException
from mlflow.projects import utils
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import SubmittedRun

from isogloss.errors import ConfigError, IsoglossError
from isogloss.launchers import slurm
from isogloss.launchers.slurm import JobState
from isogloss.launchers.slurm_config import SlurmConfig, read_backend_config
from isogloss.launchers.slurm_launch import Launch, plan_jobs
from isogloss.tracking.store import ensure_store

logger = logging.getLogger(__name__)

OF_MLFLOW = {
    utils.PROJECT_ENV_MANAGER, utils.PROJECT_SYNCHRONOUS, utils.PROJECT_DOCKER_ARGS,
    utils.PROJECT_STORAGE_DIR, utils.PROJECT_BUILD_IMAGE, utils.PROJECT_DOCKER_AUTH,
}  # fmt: skip
POLL_SECONDS = 10.0
CANCEL_SECONDS = 60.0


class SlurmRun(SubmittedRun):
    """A launch: `last` is the job that decides whether it has succeeded."""

    def __init__(self, run_id: str, jobs: Sequence[str], last: str) -> None:
        super().__init__()
        self._run_id = run_id
        self.jobs = tuple(jobs)
        self.last = last

    @property
    def run_id(self) -> str:
        """The run of the study."""
        return self._run_id

    def wait(self) -> bool:
        """Wait until all jobs have ended; whether the last one succeeded."""
        warned = False
        while True:
            try:
                status = self.status()
            except OSError as error:
                if not warned:
                    logger.warning(f"Slurm does not answer, waiting: {error}")
                warned, status = True, RunStatus.RUNNING
            if RunStatus.is_terminated(status):
                return bool(status == RunStatus.FINISHED)
            time.sleep(POLL_SECONDS)

    def get_status(self) -> str:
        """MLflow's name of the status of the launch."""
        return str(RunStatus.to_string(self.status()))

    def status(self) -> int:
        """MLflow's status: of the jobs, or of the run if Slurm has forgotten them.

        Raises OSError if Slurm cannot be asked.
        """
        states = slurm.job_states(self.jobs)
        tasks = [state for own in states.values() for state in own]
        if any(not state.is_final for state in tasks):
            waits = all(state == JobState.WAITING for state in tasks)
            return int(RunStatus.SCHEDULED if waits else RunStatus.RUNNING)
        if self.last not in states:
            recorded = int(RunStatus.from_string(mlflow.get_run(self._run_id).info.status))
            # The job that would have ended the run is gone.
            return recorded if RunStatus.is_terminated(recorded) else int(RunStatus.FAILED)
        last = states[self.last]
        if all(state == JobState.COMPLETED for state in last):
            return int(RunStatus.FINISHED)
        return int(RunStatus.KILLED if JobState.CANCELLED in last else RunStatus.FAILED)

    def cancel(self) -> None:
        """Cancel all jobs and wait until none runs, for a minute at most."""
        slurm.cancel(self.jobs)
        end = time.monotonic() + CANCEL_SECONDS
        while not RunStatus.is_terminated(self.status()) and time.monotonic() < end:
            time.sleep(min(1.0, POLL_SECONDS))


class SlurmBackend(AbstractBackend):
    """Submits an entry point of the project to Slurm."""

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: Mapping[str, str] | None,
        version: str | None,
        backend_config: Mapping[str, object],
        tracking_uri: str,
        experiment_id: str,
    ) -> SlurmRun:
        """Submit the jobs and return at once.

        User errors raise ExecutionException, which MLflow prints without a traceback; those that
        can be found before a run is open are.
        """
        params = dict(params or {})
        try:
            config = _config(backend_config)
            slurm.require_slurm()
            ensure_store()
            work_dir = utils.fetch_and_validate_project(project_uri, version, entry_point, params)
            with chdir(work_dir):
                plan = plan_jobs(entry_point, params, config, experiment_id)
            for options in plan.distinct_options:
                slurm.check_options(options)
            run = utils.get_or_create_run(
                None, project_uri, experiment_id, work_dir, version, entry_point, params
            )
            run_id = str(run.info.run_id)
            fetched = not Path(project_uri.partition("#")[0].removeprefix("file://")).exists()
            launch = Launch(plan, config, run_id, Path(work_dir), tracking_uri)
            jobs = launch.submit(copy_project=fetched)
        except IsoglossError as error:
            raise ExecutionException(str(error)) from error
        return SlurmRun(run_id, list(jobs.values()), list(jobs.values())[-1])


def backend() -> SlurmBackend:
    """What MLflow's group of project backends names."""
    return SlurmBackend()


def _config(values: Mapping[str, object]) -> SlurmConfig:
    """The backend configuration, without what MLflow adds to it."""
    manager = values.get(utils.PROJECT_ENV_MANAGER)
    if manager not in (None, "local"):
        raise ConfigError(
            f"--env-manager {manager} makes an environment on this machine, which jobs do not use; "
            "use local, and set `python` or `setup` in the backend config."
        )
    return read_backend_config(
        {name: value for name, value in values.items() if name not in OF_MLFLOW}
    )
