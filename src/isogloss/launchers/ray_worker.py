"""A worker of a Ray cluster: one process that loads a model once and runs cells of that model.

The driver gives it all it needs: cells, the run they belong to, MLflow's URI and credentials.
Imports what is heavy only after the environment is set.
"""

import hashlib
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import isogloss

if TYPE_CHECKING:
    from isogloss.stages.session import Session
    from isogloss.stages.study_cells import StudyCell

logger = logging.getLogger(__name__)

INTERRUPT = signal.SIGUSR1  # Ray blocks SIGINT in its workers, and ends them at SIGTERM


@dataclass(frozen=True)
class Settings:
    """What the driver gives every worker; `variables` may be secret and are never shown."""

    variables: Mapping[str, str] = field(repr=False)
    folder: str
    level: int


@dataclass(frozen=True)
class Place:
    """Where a worker runs, and the digest of the code it runs."""

    host: str
    process: int
    node: str
    code: str


@dataclass(frozen=True)
class Task:
    """A cell, its name in progress lines, its parent run and the finished run of its adapter."""

    cell: "StudyCell"
    label: str
    parent: str
    finetuned: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The run of a cell, or why there is none.

    `again`: the worker is the reason, which does not reach MLflow or was cut off, and another one
    may fare better. `unloadable`: the model cannot be loaded, and its other cells would fail, too.
    `seconds` are those of the work, after a model was loaded and a `share` found on disk.
    """

    run: str | None = None
    reason: str = ""
    again: bool = False
    unloadable: bool = False
    seconds: float = 0.0
    share: float = 0.0


def code_digest() -> str:
    """The digest of isogloss's code in this process."""
    root = Path(isogloss.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class CellWorker:
    """The process of one Ray actor. Its methods run in the main thread, one at a time."""

    def __init__(self, settings: Settings) -> None:
        os.environ.update(settings.variables)
        if Path(settings.folder).is_dir():  # else names in the study must be absolute
            os.chdir(settings.folder)
        signal.signal(INTERRUPT, _interrupt)
        from isogloss import logs

        logs.configure(settings.level)
        self._session: Session | None = None

    def place(self) -> Place:
        """Where this worker is. Imports torch and MLflow, so that cells begin at once."""
        import ray

        from isogloss.stages import cell  # noqa: F401

        return Place(
            socket.gethostname(),
            os.getpid(),
            ray.get_runtime_context().get_node_id(),
            code_digest(),
        )

    def run(self, task: Task) -> Outcome:
        """Run a cell. A failure is an outcome, and so is an interruption."""
        from isogloss.errors import (
            IsoglossError,
            LeaseLostError,
            ModelError,
            ProcessError,
            TrackingError,
        )
        from isogloss.stages.progress import study_report

        begun, found_share = time.monotonic(), 0.0

        def report(share: float, found: bool) -> str:
            nonlocal begun, found_share
            if found:
                begun, found_share = time.monotonic(), share
            return ""  # the driver alone knows the rest of the study

        token = study_report.set(report)
        try:
            run = self._run(task)
            return Outcome(run=run, seconds=time.monotonic() - begun, share=found_share)
        except KeyboardInterrupt:
            return Outcome(reason="it was interrupted.")
        except Exception as error:  # any failure of a cell leaves the others to be done
            logger.debug("traceback of the failed cell", exc_info=error)
            loaded = self._session is not None and self._session.loaded
            return Outcome(
                reason=str(error) if isinstance(error, IsoglossError) else repr(error),
                again=isinstance(error, (LeaseLostError, ProcessError, TrackingError)),
                unloadable=isinstance(error, ModelError) and not loaded,
            )
        finally:
            study_report.reset(token)

    def _run(self, task: Task) -> str:
        import mlflow

        from isogloss.stages.cell import do_cell
        from isogloss.stages.session import Session
        from isogloss.tracking.runs import child_of

        if self._session is None:
            self._session = Session.of(task.cell.config)
        finetuned = mlflow.get_run(task.finetuned) if task.finetuned else None
        with child_of(task.parent):
            run = do_cell(task.cell, self._session, task.label, finetuned)
        return str(run.info.run_id)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End a cell as Ctrl-C does; a second signal must not disturb what the first one began."""
    signal.signal(INTERRUPT, signal.SIG_IGN)
    raise KeyboardInterrupt


def send_signal(process: int, number: int) -> None:
    """Send a signal to a process of this machine: the work of a task on a worker's node."""
    os.kill(process, number)
