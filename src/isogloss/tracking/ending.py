"""The end of a run that an error or a signal broke off: its status is written, whatever else fails.

An error may have no memory left for what comes after it, and a database may be locked or its disk
full just then. MLflow's `end_run` forgets a run before it writes the status, and as Python exits
MLflow marks each run that it has not forgotten as finished, with results or without.
"""

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial

import mlflow
from mlflow.entities import RunStatus

from isogloss.compat.mlflow import leave_run
from isogloss.errors import LeaseLostError, TrackingError
from isogloss.tracking.resume import Resumable
from isogloss.tracking.search import find_runs
from isogloss.tracking.server import Failure, failure, in_a_hurry, is_missing, reason
from isogloss.tracking.tags import PREFIX

logger = logging.getLogger(__name__)

REASON = f"{PREFIX}reason"  # tag: why a run was ended
PROCESS = "process"  # tag: the process that opened or resumed a run
RUNNING, FINISHED, FAILED, KILLED = map(
    RunStatus.to_string,
    (RunStatus.RUNNING, RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED),
)
# Tags that tell the runs of one process apart.
TELLING = tuple(f"{PREFIX}{name}" for name in ("kind", "fingerprint", "request", PROCESS))
SHORTAGE = 6.0  # seconds in which something is tried again
PAUSE = 0.2  # seconds before it is
LASTING = (Failure.NO_ANSWER, Failure.ACCESS_DENIED, Failure.NOT_MLFLOW)


@dataclass(frozen=True)
class Opening:
    """How a run was to be opened: the one that is `resumed`, or a new one within the `outer` one.

    `tags` are those that it has when it is opened, with their prefix.
    """

    experiment_id: str
    resumed: str | None
    outer: str | None
    tags: Mapping[str, str]

    def begun(self) -> str | None:
        """The running run that was opened, where an error kept MLflow from naming it."""
        if self.resumed:
            running = mlflow.get_run(self.resumed).info.status == RUNNING
            return self.resumed if running else None
        telling = {name: self.tags[name] for name in TELLING if name in self.tags}
        found = find_runs([self.experiment_id], telling, status=RUNNING)
        return next((run.info.run_id for run in found if run.info.run_id != self.outer), None)


def end_broken(
    error: BaseException,
    run_id: str | None,
    opening: Opening,
    work: Resumable | None,
    *,
    whole: bool,
) -> None:
    """End a run because of an error, unless another process has resumed it.

    `run_id` is None if the error came while it was opened. A run that is `whole`, with all results,
    is finished. Raises no error: the one that ends the run matters more, and a process that is to
    end has no time for retries.
    """
    interrupted = isinstance(error, KeyboardInterrupt | GeneratorExit)
    hurried = interrupted or isinstance(error, TrackingError)
    ending = _Ending(error, opening, work, run_id, whole=whole, interrupted=interrupted)
    with in_a_hurry() if hurried else nullcontext():
        problem = insist(ending.write, error)
        if problem is not None and ending.run_id is not None and not _is_lasting(problem):
            logger.warning(
                f"run {ending.run_id} may be left as running ({reason(problem)}); the same command "
                "resumes or ends it"
            )
        if interrupted and work and ending.run_id is not None and not whole:
            insist(partial(_record, work, ending.run_id), error)
    _forget(opening.outer)


def finish(run_id: str) -> None:
    """End a run that has all results; raises the error of a store that does not take it."""
    problem = insist(partial(_end, run_id, FINISHED))
    if problem is not None:
        raise problem


def insist(action: Callable[[], None], error: BaseException | None = None) -> Exception | None:
    """Do something, again for some seconds if it fails; the last problem, None if it is done.

    `error` is what is being handled: the memory is freed that its traceback holds. One Ctrl-C is
    raised when the action is done.
    """
    give_up = time.monotonic() + SHORTAGE
    interruption: KeyboardInterrupt | None = None
    problem: Exception | None = None
    while True:
        try:
            action()
            problem = None
            break
        except KeyboardInterrupt as again:
            if interruption:
                raise
            interruption = again
        except Exception as raised:  # whatever it is, and it may be gone in a moment
            problem = raised
            traceback.clear_frames(raised.__traceback__)
            if _is_lasting(raised) or time.monotonic() > give_up:
                break
        if error is not None:
            traceback.clear_frames(error.__traceback__)
        time.sleep(PAUSE)
    if interruption:
        raise interruption
    return problem


@dataclass
class _Ending:
    """The end of a run: what is known of the run, so that it can be tried again."""

    error: BaseException
    opening: Opening
    work: Resumable | None
    run_id: str | None
    whole: bool
    interrupted: bool

    def write(self) -> None:
        """Write the status, if the run is still this process's."""
        self.run_id = self.run_id or self.opening.begun()
        if self.run_id is None:
            return
        if self.whole:
            _end(self.run_id, FINISHED)
            return
        if self.work and self.work.lease.is_anothers(self.run_id):
            return
        if self.work and (isinstance(self.error, LeaseLostError) or self.work.lease.lost):
            if mlflow.get_run(self.run_id).info.status == RUNNING:
                mlflow.MlflowClient().set_tag(self.run_id, REASON, str(self.error))
                _end(self.run_id, KILLED)
            return
        _end(self.run_id, KILLED if self.interrupted else FAILED)


def _end(run_id: str, status: str) -> None:
    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        mlflow.end_run(status)  # which forgets the run first, so that another try comes to
    else:
        mlflow.MlflowClient().set_terminated(run_id, status)


def _record(work: Resumable, run_id: str) -> None:
    """Let the same command resume the run, if it was interrupted before it was recorded."""
    if work.run_id is None and not work.lease.lost:
        work.record_run(run_id)


def _forget(outer: str | None) -> None:
    """Leave runs of this process, up to the outer one, in the store as they are."""
    with suppress(Exception):
        while (active := mlflow.active_run()) is not None and active.info.run_id != outer:
            leave_run()


def _is_lasting(problem: Exception) -> bool:
    return is_missing(problem) or failure(problem) in LASTING
