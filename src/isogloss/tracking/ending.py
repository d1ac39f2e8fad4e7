"""The end of a run that an error or a signal broke off: its status is written, whatever else fails.

An error may have no memory left for what comes after it, and a database may be locked or its disk
full just then. MLflow's `end_run` forgets a run before it writes the status, and as Python exits
MLflow marks each run that it has not forgotten as finished, with results or without.

When memory is short, a reserve is released and the frames of the error are cleared. What is not
tried again needs no memory itself: it makes no object, so it has neither context managers nor
closures.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial

import mlflow
from mlflow.entities import RunStatus

from isogloss.compat.mlflow import leave_run
from isogloss.errors import LeaseLostError, TrackingError, is_interruption
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
TRIES = 30  # at most
RESERVE = 2**23  # bytes to end a run with; nothing is written to them, so they are only reserved
LASTING = (Failure.NO_ANSWER, Failure.ACCESS_DENIED, Failure.NOT_MLFLOW)

_reserve: list[bytes] = []


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


def hold_reserve() -> None:
    """Hold memory to end a run with, if there is some."""
    if not _reserve:
        with suppress(MemoryError):
            _reserve.append(bytes(RESERVE))


def release_reserve() -> None:
    """Let the memory be used that is held to end a run with."""
    _reserve.clear()


def finish(run_id: str) -> None:
    """End a run that has all results; raises the error of a store that does not take it."""
    problem = insist(partial(_end, run_id, FINISHED))
    if problem is not None:
        raise problem


def insist(action: Callable[[], None], error: BaseException | None = None) -> Exception | None:
    """Do something, again for some seconds if it fails; the last problem, None if it is done.

    `error` is what is being handled: before another try, the memory is freed that its frames hold.
    One Ctrl-C is raised when the action is done.
    """
    interruption: KeyboardInterrupt | None = None
    problem: Exception | None = None
    tries, give_up = 0, 0.0
    while tries < TRIES:
        tries += 1
        try:  # also what comes before another try: it may have no memory either
            if tries > 1:
                free_memory(problem)
                free_memory(error)
                if problem is not None and _is_lasting(problem):
                    break
                time.sleep(PAUSE)
            now = time.monotonic()
            give_up = give_up or now + SHORTAGE
            if now > give_up:
                break
            action()
            problem = None
            break
        except KeyboardInterrupt as again:
            if interruption:
                raise
            interruption = again
        except Exception as raised:  # whatever it is, and it may be gone in a moment
            problem = raised
    if interruption:
        raise interruption
    return problem


def free_memory(error: BaseException | None) -> None:
    """Free the reserve, and what the frames of an error and of those before it hold.

    `traceback.clear_frames` stops at the first frame that is running, if there is no memory for the
    error that says so.
    """
    release_reserve()
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            try:  # noqa: SIM105 - a context manager needs memory
                trace.tb_frame.clear()
            except (RuntimeError, MemoryError):  # a frame that runs cannot be cleared
                pass
            trace = trace.tb_next
        error = error.__context__


@dataclass
class Ending:
    """The end of a run that an error breaks off, made before the run is opened: memory is there.

    `run_id` is None if the error came while the run was opened. A run that is `whole`, with all
    results, is finished.
    """

    opening: Opening
    work: Resumable | None
    run_id: str | None = None
    whole: bool = False
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self._steps = self._write, self._record  # a bound method is an object, too

    def end(self, error: BaseException) -> None:
        """End the run because of an error, unless another process has resumed it.

        Raises no error: the one that ends the run matters more, and a process that is to end has no
        time for retries.
        """
        self.error = error
        write, record = self._steps
        try:
            problem = insist(write, error)
            if problem is not None:
                self._warn(problem)
            insist(record, error)
        finally:
            self.error = None
            _forget(self.opening.outer)

    @property
    def _interrupted(self) -> bool:
        return isinstance(self.error, GeneratorExit) or is_interruption(self.error)

    def _hurry(self) -> AbstractContextManager[None]:
        hurried = self._interrupted or isinstance(self.error, TrackingError)
        return in_a_hurry() if hurried else nullcontext()

    def _write(self) -> None:
        """Write the status, if the run is still this process's."""
        with self._hurry():
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
            _end(self.run_id, KILLED if self._interrupted else FAILED)

    def _warn(self, problem: Exception) -> None:
        try:
            if self.run_id is not None and not _is_lasting(problem):
                logger.warning(
                    f"run {self.run_id} may be left as running ({reason(problem)}); the same "
                    "command resumes or ends it"
                )
        except MemoryError:
            pass  # for the line itself, too

    def _record(self) -> None:
        """Let the same command resume the run, if it was interrupted before it was recorded."""
        if not self._interrupted or self.whole or self.work is None or self.run_id is None:
            return
        with self._hurry():
            if self.work.run_id is None and not self.work.lease.lost:
                self.work.record_run(self.run_id)


def _end(run_id: str, status: str) -> None:
    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        mlflow.end_run(status)  # which forgets the run first, so that another try comes to
    else:
        mlflow.MlflowClient().set_terminated(run_id, status)


def _forget(outer: str | None) -> None:
    """Leave runs of this process, up to the outer one, in the store as they are."""
    tries = 0
    while tries < TRIES:
        tries += 1
        try:
            while (active := mlflow.active_run()) is not None and active.info.run_id != outer:
                leave_run()
            return
        except MemoryError:
            time.sleep(PAUSE)
        except Exception:
            return


def _is_lasting(problem: Exception) -> bool:
    if isinstance(problem, MemoryError):  # and this function would need some
        return False
    return is_missing(problem) or failure(problem) in LASTING
