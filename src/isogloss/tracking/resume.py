"""Folders of intermediate results, from which an interrupted run is resumed.

Each piece of work has a folder, named by its kind and fingerprint, in $ISOGLOSS_UNFINISHED or in a
folder of the cache that belongs to MLflow's store. The folder survives a killed process and an
unreachable tracking server; the same command resumes from it, from any current directory and any
machine that has the same cache. It is deleted when MLflow has all results. One process at a time
does a piece of work (see `leases`).
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import mlflow
from filelock import FileLock, Timeout
from pydantic import BaseModel, Field, ValidationError

from isogloss.errors import ConfigError, is_interruption
from isogloss.files import (
    cache_dir,
    delete_parts,
    file_lock,
    make_cache_dir,
    sqlite_file,
    write_whole,
)
from isogloss.tracking.leases import Lease, lease
from isogloss.tracking.tags import RunKind
from isogloss.tracking.versions import major_version, model_libraries

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
LOCKS = ".locks"
ROOT = "ISOGLOSS_UNFINISHED"
FORMER_ROOT = Path("unfinished")  # in the current directory, of earlier versions

# Folders with results that contexts of this process have left because of an error.
kept: list[Path] = []


class Resumable(Protocol):
    """Work that knows the run it was started in."""

    @property
    def folder(self) -> Path:
        """Where its intermediate results are."""

    @property
    def run_id(self) -> str | None:
        """The run it was started in; None before its first run."""

    @property
    def lease(self) -> Lease:
        """The lease of the work."""

    def record_run(self, run_id: str) -> None:
        """Store the run it is done in."""


class _Recorded(BaseModel):
    """The content of a run file."""

    run_id: str = Field(min_length=1)
    libraries: dict[str, str] = {}


@dataclass(frozen=True)
class WorkDir:
    """The folder of one piece of work; see `Resumable`. A predecessor may have left it: `found`."""

    folder: Path
    lease: Lease = field(default_factory=Lease)
    found: bool = False

    @property
    def run_id(self) -> str | None:
        """The run the work was started in; None before its first run."""
        recorded = self._recorded()
        return None if recorded is None else recorded.run_id

    def _recorded(self) -> "_Recorded | None":
        """The content of the run file; a damaged one is deleted, and a warning says so."""
        path = self.folder / RUN_FILE
        if not path.is_file():
            return None
        try:
            return _Recorded.model_validate_json(path.read_bytes())
        except ValidationError:
            logger.warning(f"{path} is damaged and deleted; the run it named may be left as it is")
            path.unlink(missing_ok=True)
            return None

    def record_run(self, run_id: str) -> None:
        """Store the run the work is done in, and the libraries that do it."""
        self.lease.record_run(run_id)
        facts = _Recorded(run_id=run_id, libraries=model_libraries(adapter=True))
        write_whole(self.folder / RUN_FILE, facts.model_dump_json().encode())

    def major_update(self) -> str | None:
        """A library that had another major version when the work was begun, as a clause."""
        recorded = self._recorded()
        then = recorded.libraries if recorded else {}
        for name, now in model_libraries(adapter=True).items():
            if name in then and major_version(then[name]) != major_version(now):
                return f"they were computed with {name} {then[name]}, and {now} is installed"
        return None

    def delete(self) -> None:
        """Delete the folder: MLflow has all results."""
        shutil.rmtree(self.folder, ignore_errors=True)


def work_root() -> Path:
    """The folder of all work folders: $ISOGLOSS_UNFINISHED, or one in the cache for this store."""
    if configured := os.environ.get(ROOT):
        return Path(configured).absolute()
    return cache_dir().absolute() / "unfinished" / _store_digest(mlflow.get_tracking_uri())


def _store_digest(uri: str) -> str:
    """What identifies a store, without the login and the driver in its address."""
    path = sqlite_file(uri)
    parts = urlsplit(uri)
    scheme, host = parts.scheme.partition("+")[0], parts.netloc.rpartition("@")[2]
    address = f"sqlite {path.resolve()}" if path else f"{scheme} {host} {parts.path.rstrip('/')}"
    return hashlib.sha256(address.encode()).hexdigest()[:12]


def work_folder(name: str) -> Path:
    """The folder of the work of that name; one that an earlier version left is used on."""
    former = FORMER_ROOT.absolute() / name
    return former if ROOT not in os.environ and former.is_dir() else work_root() / name


def work_lock(folder: Path) -> FileLock:
    """The lock of a work folder; ConfigError if it cannot be created."""
    locks = folder.parent / LOCKS
    try:
        if cache_dir() in locks.parents:
            make_cache_dir()
        locks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"intermediate results cannot be written to {folder.parent} ({error.strerror}); set "
            f"{ROOT} to another folder."
        ) from error
    return file_lock(locks / folder.name)


@contextmanager
def locked_work_dir(kind: RunKind, fingerprint: str) -> Iterator[WorkDir]:
    """Lock a piece of work, wait while another process holds it, and yield its folder.

    The folder exists within the context, with the results of an interrupted process if there was
    one, unless that had another major version of a library. An empty folder is deleted at the end.
    """
    name = f"{kind}-{fingerprint[:12]}"
    with lease(f"{kind}-{fingerprint}") as held, _locked_folder(name, held) as folder:
        work = WorkDir(folder, held, found=folder.is_dir())
        if update := work.major_update():
            logger.warning(f"the results in {work.folder} are not continued: {update}")
            work.delete()
            work = replace(work, found=False)
        work.folder.mkdir(exist_ok=True)
        delete_parts(work.folder)
        yield work


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Context that one process at a time enters, for work that leaves nothing to resume from."""
    key = hashlib.sha256(name.encode()).hexdigest()
    with lease(f"only-{key}") as held, _locked_folder(f"only-{key[:12]}", held):
        yield


@contextmanager
def _locked_folder(name: str, held: Lease) -> Iterator[Path]:
    """Lock a work folder against processes that know another database of leases, or none.

    Not against the stopped process from which the lease was taken over.
    """
    folder = work_folder(name)
    lock = work_lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not held.taken_over:
            logger.info(f"another process is computing {name}; waiting for it")
            lock.acquire()
    interrupted = False
    try:
        yield folder
    except BaseException as error:
        # It may have opened a run that it did not live to record, which a successor looks for in
        # a folder that it finds.
        interrupted = is_interruption(error)
        if not held.lost and _has_results(folder):
            kept.append(folder)
        raise
    finally:
        if not (held.lost or interrupted) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        lock.release()


def _has_results(folder: Path) -> bool:
    return folder.is_dir() and any(path.name != RUN_FILE for path in folder.iterdir())
