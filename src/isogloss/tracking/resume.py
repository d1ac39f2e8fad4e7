"""Folders of intermediate results, from which an interrupted run is resumed.

Each piece of work has a folder, named by its kind and fingerprint, in $ISOGLOSS_UNFINISHED or in
`unfinished/` in the current directory. The folder survives a killed process and an unreachable
tracking server; the same command resumes from it. It is deleted when MLflow has all results.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from isogloss.errors import ConfigError
from isogloss.files import delete_parts, write_whole
from isogloss.tracking.tags import RunKind
from isogloss.tracking.versions import major_version, model_libraries

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
LOCKS = ".locks"


class Resumable(Protocol):
    """Work that knows the run it was started in."""

    @property
    def folder(self) -> Path:
        """Where its intermediate results are."""

    @property
    def run_id(self) -> str | None:
        """The run it was started in; None before its first run."""

    def record_run(self, run_id: str) -> None:
        """Store the run it is done in."""


@dataclass(frozen=True)
class WorkDir:
    """The folder of one piece of work; see `Resumable`."""

    folder: Path

    @property
    def run_id(self) -> str | None:
        """The run the work was started in; None before its first run."""
        path = self.folder / RUN_FILE
        return str(json.loads(path.read_text("utf-8"))["run_id"]) if path.is_file() else None

    def record_run(self, run_id: str) -> None:
        """Store the run the work is done in, and the libraries that do it."""
        facts = {"run_id": run_id, "libraries": model_libraries(adapter=True)}
        write_whole(self.folder / RUN_FILE, json.dumps(facts).encode())

    def major_update(self) -> str | None:
        """A library that had another major version when the work was begun, as a clause."""
        path = self.folder / RUN_FILE
        then = json.loads(path.read_text("utf-8")).get("libraries", {}) if path.is_file() else {}
        for name, now in model_libraries(adapter=True).items():
            if name in then and major_version(then[name]) != major_version(now):
                return f"they were computed with {name} {then[name]}, and {now} is installed"
        return None

    def delete(self) -> None:
        """Delete the folder: MLflow has all results."""
        shutil.rmtree(self.folder, ignore_errors=True)


def work_root() -> Path:
    """The folder of all work folders: $ISOGLOSS_UNFINISHED or `unfinished/`."""
    return Path(os.environ.get("ISOGLOSS_UNFINISHED", "unfinished")).absolute()


def work_lock(name: str) -> FileLock:
    """The lock of the work folder of that name; ConfigError if it cannot be created."""
    locks = work_root() / LOCKS
    try:
        locks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"intermediate results cannot be written to {work_root()} ({error.strerror}); set "
            f"ISOGLOSS_UNFINISHED to another folder."
        ) from error
    return FileLock(locks / name)


@contextmanager
def locked_work_dir(kind: RunKind, fingerprint: str) -> Iterator[WorkDir]:
    """Lock a piece of work, wait while another process holds the lock, and yield its folder.

    The folder exists within the context, with the results of an interrupted process if there was
    one, unless that had another major version of a library. An empty folder is deleted at the end.
    """
    work = WorkDir(work_root() / f"{kind}-{fingerprint[:12]}")
    lock = work_lock(work.folder.name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info(f"another process is computing {work.folder.name}; waiting for it")
        lock.acquire()
    try:
        if update := work.major_update():
            logger.warning(f"the results in {work.folder} are not continued: {update}")
            work.delete()
        work.folder.mkdir(exist_ok=True)
        delete_parts(work.folder)
        yield work
    finally:
        if work.folder.is_dir() and not any(work.folder.iterdir()):
            work.folder.rmdir()
        lock.release()
