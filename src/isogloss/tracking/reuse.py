"""Reuse of finished runs: a result with the same fingerprint is not computed again."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import mlflow
from mlflow.entities import LifecycleStage, Run, RunStatus
from pydantic import BaseModel

from isogloss.errors import LeaseLostError
from isogloss.formatting import listed
from isogloss.process_ids import has_ended
from isogloss.tracking.artifacts import PREDICTIONS, damage
from isogloss.tracking.ending import PROCESS, REASON, RUNNING
from isogloss.tracking.experiments import choose_experiment, searched_with
from isogloss.tracking.fingerprints import fingerprint as digest
from isogloss.tracking.leases import LEASES
from isogloss.tracking.libraries import is_major, updates_since
from isogloss.tracking.project_run import Link, link_project_run
from isogloss.tracking.resume import WorkDir, locked_work_dir
from isogloss.tracking.search import FINISHED, existing_run, find_runs
from isogloss.tracking.tags import PREFIX, RunKind, prefixed, tag

logger = logging.getLogger(__name__)

REQUEST = f"{PREFIX}request"  # a digest of the configuration of a run with children
REPORT = "report/report.html"
# Artifacts without which a run of a kind is no use.
REQUIRED = {RunKind.EVALUATE: (PREDICTIONS,), RunKind.COMPARE: (REPORT,)}


def find_finished(
    kind: RunKind,
    fingerprint: str,
    experiment_id: str,
    problem_of: Callable[[Run], str | None] = lambda run: None,
) -> Run | None:
    """The newest finished run of that kind and fingerprint that can be used.

    It may lie in any experiment that is `searched_with` that one. A run cannot be used if artifacts
    are gone or changed, if it was computed with another major version of a library, or if
    `problem_of` names a problem. Each such run is logged with the reason; None if there is no
    other.
    """
    wanted = prefixed({"kind": kind, "fingerprint": fingerprint})
    for run in find_runs(searched_with(experiment_id), wanted, status=FINISHED):
        problem = _major_update(run) or damage(run, REQUIRED.get(kind, ())) or problem_of(run)
        if problem is None:
            _log_updates(run)
            return run
        logger.warning(f"run {run.info.run_id} is not reused: {problem}; computing it again")
    return None


def _major_update(run: Run) -> str | None:
    """The library whose major version is another than in a run, as a clause."""
    for name, versions in updates_since(run).items():
        if is_major(versions):
            return f"it was computed with {name} {versions[0]}, and {versions[1]} is installed"
    return None


def _log_updates(run: Run) -> None:
    if updates := updates_since(run):
        then = listed([f"{name} {versions[0]}" for name, versions in updates.items()])
        now = listed([f"{name} {versions[1]}" for name, versions in updates.items()])
        logger.info(f"run {run.info.run_id} was computed with {then}; installed: {now}")


def require_first(
    kind: RunKind,
    fingerprint: str,
    run: Run,
    work: WorkDir,
    problem_of: Callable[[Run], str | None] = lambda run: None,
) -> None:
    """Raise LeaseLostError if another process has finished the same work meanwhile.

    For machines that no lease excludes: called before results are logged, so that they are logged
    once unless both arrive here within the time of logging.
    """
    if work.lease.excludes:
        return
    other = find_finished(kind, fingerprint, run.info.experiment_id, problem_of)
    if other is not None and other.info.run_id != run.info.run_id:
        raise LeaseLostError(
            f"another process has done the same work meanwhile, in run {other.info.run_id}, "
            f"because no lease excludes the two (see {LEASES}); the same command finds its results."
        )


@contextmanager
def reuse_or_lock(
    kind: RunKind,
    fingerprint: str,
    experiment: str | None,
    study: str | None = None,
    problem_of: Callable[[Run], str | None] = lambda run: None,
) -> Iterator[tuple[WorkDir, Run | None]]:
    """Lock a piece of work; yield its folder and the finished run that has its result, or None.

    The folder is deleted when the context ends without an error. `problem_of` as in
    `find_finished`. A run that a killed process left, and whose intermediate results are not here,
    is ended.
    """
    with locked_work_dir(kind, fingerprint) as work:
        experiment_id = choose_experiment(experiment)
        if work.found:  # else its intermediate results are elsewhere, and this process begins anew
            adopt_left_run(work, experiment_id, {"kind": kind, "fingerprint": fingerprint})
        end_left_run(work, experiment_id)
        finished = find_finished(kind, fingerprint, experiment_id, problem_of)
        if finished:
            record_reuse(finished, study)
        yield work, finished
        work.delete()


class Parent(NamedTuple):
    """The work of a run with children, and the finished run of a process that was waited for."""

    work: WorkDir
    finished: Run | None
    tags: dict[str, str]  # of its run


@contextmanager
def locked_parent(kind: RunKind, config: BaseModel, experiment: str | None) -> Iterator[Parent]:
    """Lock what one command does, by its configuration; its run is that of a killed predecessor.

    Several processes may be given the same command at once: `finished` is the run of the one that
    did it while this one waited.
    """
    experiment_id = choose_experiment(experiment)
    key = digest(kind=kind, experiment=experiment_id, config=config.model_dump(mode="json"))
    with locked_work_dir(kind, key) as work:
        name = REQUEST.removeprefix(PREFIX)
        adopt_left_run(work, experiment_id, {"kind": kind, name: key})
        finished = None
        if work.lease.waited:
            runs = find_runs([experiment_id], {REQUEST: key}, status=FINISHED)
            finished = runs[0] if runs else None
        yield Parent(work, finished, {name: key})
        work.delete()


def adopt_left_run(work: WorkDir, experiment_id: str, tags: Mapping[str, str]) -> None:
    """Record the run that a killed process opened, if it did not live to record it in the folder.

    It is the run of the lease, or a running one with these tags, whose process has ended. A run of
    another store is not resumed, see `open_run`.
    """
    if work.run_id is None and (left := work.lease.left or left_run(experiment_id, tags)):
        work.record_run(left)


def left_run(experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """The id of the newest running run with these tags, whose process was one of this machine and
    has ended; None if there is none.
    """
    for run in find_runs([experiment_id], prefixed(tags), status="RUNNING"):
        if has_ended(tag(run, PROCESS) or ""):
            return str(run.info.run_id)
    return None


def end_left_run(work: WorkDir, experiment_id: str) -> None:
    """End the run that the last holder of a lease left open.

    It is finished if it has all results, and killed unless its intermediate results are in the
    work folder, from which it is resumed.
    """
    left = work.lease.left
    if left is None:
        return
    run = existing_run(left)
    if run is None:
        return
    info = run.info
    searched = searched_with(experiment_id)
    if info.experiment_id not in searched or info.lifecycle_stage != LifecycleStage.ACTIVE:
        return
    client = mlflow.MlflowClient()
    if work.lease.left_whole and info.status != RunStatus.to_string(RunStatus.FINISHED):
        client.set_terminated(left, "FINISHED")
    elif info.status == RUNNING and left != work.run_id:
        client.set_tag(left, REASON, "its process ended, and another began again")
        client.set_terminated(left, "KILLED")


def record_reuse(run: Run, study: str | None = None) -> None:
    """Add a finished run to another study, and link the run that `mlflow run` has opened to it."""
    if study is not None and study not in studies_of(run):
        names = "\n".join([*studies_of(run), study])
        mlflow.MlflowClient().set_tag(run.info.run_id, f"{PREFIX}studies", names)
    link_project_run(run, Link.REUSES)


def studies_of(run: Run) -> list[str]:
    """The studies of a run: the one that made it, then those that reused it."""
    own = tag(run, "study")
    reused_by = (tag(run, "studies") or "").splitlines()
    return list(dict.fromkeys([*([own] if own is not None else []), *reused_by]))
