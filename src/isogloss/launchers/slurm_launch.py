"""A launch on Slurm: the plan of its jobs, made before a run is open, and their submission."""

import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
from pydantic import BaseModel, ValidationError

from isogloss.config import ENTRY_POINTS, MainConfig, StudyConfig, explain
from isogloss.errors import ConfigError
from isogloss.formatting import without_password
from isogloss.launchers import slurm
from isogloss.launchers.job_arrays import JobArray, cell_options, estimated, job_arrays
from isogloss.launchers.needs import Needs, cell_needs
from isogloss.launchers.slurm_config import JobOptions, SlurmConfig, sbatch_words
from isogloss.launchers.slurm_scripts import PROJECT_RUN, JobFolder
from isogloss.models.locate import on_this_machine
from isogloss.stages.cell import cell_states, cells_by_id
from isogloss.stages.configured_study import configured_study
from isogloss.stages.preflight import check_study
from isogloss.stages.session import Session
from isogloss.stages.study_cells import StudyCell
from isogloss.tracking.project_run import NAME_TAG
from isogloss.tracking.tags import PREFIX

logger = logging.getLogger(__name__)

TRACKING_URI = "MLFLOW_TRACKING_URI"
COMPARISON = "compare"  # the job that runs `main` when all cells have ended


@dataclass(frozen=True)
class LaunchPlan:
    """Arrays of cells, and the job that ends the launch: one, or several identical workers.

    `cell_arguments` are those of `isogloss cell` beside the study and the id; `last` are those of
    `isogloss` for the last job. `finished` is the number of cells that need no task.
    """

    title: str
    last: tuple[str, ...]
    last_options: tuple[str, ...]
    workers: int = 1
    study: str = ""
    arrays: tuple[JobArray, ...] = ()
    cell_arguments: tuple[str, ...] = ()
    finished: int = 0

    @property
    def last_name(self) -> str:
        """The name of the last job."""
        return COMPARISON if self.last[0] == "main" else self.last[0]

    @property
    def distinct_options(self) -> list[tuple[str, ...]]:
        """What its jobs request, each once."""
        return sorted({self.last_options, *(array.options for array in self.arrays)})


def plan_jobs(
    entry_point: str, params: Mapping[str, str], config: SlurmConfig, experiment_id: str
) -> LaunchPlan:
    """The jobs of an entry point with these parameters, in the project's folder.

    Raises ConfigError, DataError or ModelError for what would make the jobs fail.
    """
    values = _validated(entry_point, params)
    experiment = str(mlflow.get_experiment(experiment_id).name)
    stated = getattr(values, "experiment", None)
    if stated not in (None, experiment):
        raise ConfigError(
            f"experiment {stated!r} is not the one this run is in; under `mlflow run` choose "
            f"it with --experiment-name {stated!r}."
        )
    arguments = tuple(f"--{name}={value}" for name, value in params.items())
    if isinstance(values, MainConfig):
        return _plan_study(values, arguments, config, experiment)
    own: dict[str, JobOptions] = {
        "finetune": config.finetune, "tune": config.finetune, "evaluate": config.evaluate,
    }  # fmt: skip
    return LaunchPlan(
        title=getattr(values, "study", None) or "isogloss",
        last=(entry_point, *arguments),
        last_options=tuple(sbatch_words(config, own.get(entry_point, config.compare))),
        workers=config.workers if entry_point == "tune" else 1,
    )


def _validated(entry_point: str, params: Mapping[str, str]) -> BaseModel:
    if entry_point not in ENTRY_POINTS:
        raise ConfigError(
            f"entry point should be one of {', '.join(ENTRY_POINTS)}, but got {entry_point!r}."
        )
    config_class = ENTRY_POINTS[entry_point]
    try:
        return config_class.model_validate(params)
    except ValidationError as error:
        raise ConfigError(explain(error, config_class)) from error


def _plan_study(
    values: MainConfig, arguments: Sequence[str], config: SlurmConfig, experiment: str
) -> LaunchPlan:
    if values.dry_run:
        raise ConfigError("dry_run=true submits nothing; leave out --backend to see the dry run.")
    study = configured_study(values)
    cells = cells_by_id(study)
    unusable = _unusable(study, list(cells.values()))
    finished = {state.id for state in cell_states(study, experiment) if state.finished}
    needs = cell_needs(study, config.card, experiment) if config.card else {}
    options = {cell: cell_options(cell, config, needs.get(cell)) for cell in cells.values()}
    left_out = finished | {name for name, cell in cells.items() if cell in unusable}
    largest = [estimated(_largest(list(needs.values())))] if needs else []
    return LaunchPlan(
        title=study.study,
        last=("main", *arguments),
        last_options=tuple(sbatch_words(*largest, config, config.compare)),
        study=values.study,
        arrays=tuple(job_arrays(cells, left_out, options.__getitem__, slurm.largest_array())),
        cell_arguments=tuple(word for word in arguments if not word.startswith("--study=")),
        finished=len(finished),
    )


def _unusable(study: StudyConfig, cells: Sequence[StudyCell]) -> Mapping[StudyCell, str]:
    """The cells that cannot run, by the check of the study; none where models are elsewhere."""
    names = {cell.config.model for cell in cells}
    if elsewhere := [name for name in names if on_this_machine(name) is None]:
        logger.info(f"the study is not checked here, because {elsewhere[0]!r} is not here")
        return {}
    sessions = {cell.config.model: Session.of(cell.config) for cell in cells}
    unusable = check_study(study, sessions, cells).unusable
    for cell, reason in unusable.items():
        logger.error(f"{cell.label} gets no job: {reason}")
    return unusable


def _largest(needs: Sequence[Needs]) -> Needs:
    """The most of everything, for a job that may have to run any cell."""

    def most(values: Sequence[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    gpus = most([own.gpus for own in needs])
    return Needs(
        None if gpus is None else round(gpus),
        most([own.memory for own in needs]),
        most([own.hours for own in needs]),
    )


@dataclass(frozen=True)
class Launch:
    """The submission of a plan in an open run; `project` is its folder on this machine."""

    plan: LaunchPlan
    config: SlurmConfig
    run_id: str
    project: Path
    tracking_uri: str

    def submit(self, copy_project: bool) -> dict[str, str]:
        """Submit the jobs; returns their ids by name, the last one last.

        `copy_project` is whether the project is in a temporary folder, which no node sees. If Slurm
        refuses a job, those before it are cancelled and the run has failed.
        """
        folder = self._folder(copy_project)
        submitted: dict[str, str] = {}
        try:
            for array in self.plan.arrays:
                self._submit_array(array, folder, submitted)
            self._submit_last(folder, submitted)
        except BaseException:
            try:
                if submitted:
                    slurm.cancel(list(submitted.values()))
            finally:
                mlflow.MlflowClient().set_terminated(self.run_id, "FAILED")
            raise
        client = mlflow.MlflowClient()
        client.set_tag(self.run_id, NAME_TAG, self.plan.title)
        client.set_tag(self.run_id, f"{PREFIX}slurm_jobs", ",".join(submitted.values()))
        self._print(folder, submitted)
        return submitted

    def _folder(self, copy_project: bool) -> JobFolder:
        path = Path(self.config.folder).absolute() / self.run_id
        project = self.project
        if copy_project:
            project = path / "project"
            shutil.copytree(self.project, project, ignore=shutil.ignore_patterns(".git"))
        # A password in the address stays in the environment, which sbatch passes on.
        public = without_password(self.tracking_uri) == self.tracking_uri
        return JobFolder(
            path=path,
            project=project,
            title=self.plan.title,
            python=self.config.python or sys.executable,
            setup=self.config.setup,
            variables={TRACKING_URI: self.tracking_uri} if public else {},
        )

    def _submit_array(self, array: JobArray, folder: JobFolder, submitted: dict[str, str]) -> None:
        before, after = (self.plan.study,), (*self.plan.cell_arguments, f"--parent={self.run_id}")
        script = folder.write_array(array.name, array.cells, before, after)
        words = [
            *folder.words(array.name, array.options),
            *folder.array_words(array.name, len(array.cells), self.config.concurrency),
        ]
        if array.after:
            words += [
                f"--dependency=aftercorr:{submitted[array.after]}",
                "--kill-on-invalid-dep=yes",
            ]
        job = slurm.submit([*words, str(script)], self._environment())
        submitted[array.name] = job
        folder.link_logs(array.name, job, array.cells)

    def _submit_last(self, folder: JobFolder, submitted: dict[str, str]) -> None:
        name, workers = self.plan.last_name, self.plan.workers
        script = folder.write_job(name, self.run_id, self.plan.last)
        words = folder.words(name, self.plan.last_options)
        if workers > 1:
            words += folder.array_words(name, workers, self.config.concurrency)
        else:
            words.append(f"--output={folder.logs}/{name}-%j.log")
        if submitted:
            words.append(f"--dependency=afterany:{':'.join(submitted.values())}")
        submitted[name] = slurm.submit([*words, str(script)], self._environment())

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if name != PROJECT_RUN}
        return own | {TRACKING_URI: self.tracking_uri}

    def _print(self, folder: JobFolder, submitted: Mapping[str, str]) -> None:
        sizes = {array.name: len(array.cells) for array in self.plan.arrays}
        if self.plan.arrays or self.plan.finished:
            print(
                f"study {self.plan.title!r}: {sum(sizes.values())} cells in {len(sizes)} job "
                f"arrays, {self.plan.finished} have finished already"
            )
        after = {array.name: array.after for array in self.plan.arrays}
        for name, job in submitted.items():
            size = sizes.get(name, self.plan.workers)
            waits = f", after {after[name]}" if after.get(name) else ""
            if name == self.plan.last_name and sizes:
                waits = ", after all others"
            print(f"job {job}: {name}, {size} task{'s' if size > 1 else ''}{waits}")
        print(
            f"run {self.run_id}\nscripts and logs: {folder.path}\n"
            f"watch: squeue --jobs={','.join(submitted.values())}\n"
            f"cancel: scancel {' '.join(submitted.values())}"
        )
