"""Files: atomic writes, locks, the cache, and paths as people write them."""

import errno
import glob
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock

from isogloss.errors import ConfigError
from isogloss.formatting import without_password
from isogloss.process_ids import has_ended, this_process

TEMPORARY = "isogloss-"  # of the name of a folder in $TMPDIR, before a process
PART = ".part"  # suffix of what is not whole yet
OWNER_ONLY = 0o600  # permissions


def cache_dir() -> Path:
    """The folder for files that can be recomputed: $ISOGLOSS_CACHE or ~/.cache/isogloss.

    It need not exist. Raises ConfigError for a path that cannot be a folder.
    """
    configured = os.environ.get("ISOGLOSS_CACHE")
    folder = Path(configured) if configured else Path.home() / ".cache" / "isogloss"
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise ConfigError(f"ISOGLOSS_CACHE cannot be used ({error.strerror}).") from error
    if not there.is_dir():
        raise ConfigError(f"ISOGLOSS_CACHE must name a folder, but {str(there)!r} is a file.")
    return folder


def make_cache_dir() -> Path:
    """Create `cache_dir` if it does not exist, for its owner alone; return it.

    It holds answers and adapters of unfinished work. A group that shares it creates it itself.
    """
    folder = cache_dir()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def keep_to_owner(path: Path) -> None:
    """Let nobody but its owner read a file, or the files of a folder, of a cache that is private.

    A cache that others may enter was created by a group that shares it, and stays as it is.
    """
    if _in_private_cache(path):
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file():
                file.chmod(OWNER_ONLY)


def _in_private_cache(path: Path) -> bool:
    folder = cache_dir().absolute()
    return folder in path.absolute().parents and not folder.stat().st_mode & 0o077


def file_lock(path: Path) -> FileLock:
    """A lock that is a file, which in a private cache is its owner's alone."""
    return FileLock(path, mode=OWNER_ONLY) if _in_private_cache(path) else FileLock(path)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader finds the old content or the new, never a part of it.

    That holds even after a power cut. Of several writers the last one wins, and none fails.
    """
    part = _unique(path, PART)
    try:
        with part.open("wb") as stream:
            keep_to_owner(part)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())  # some file systems rename before they write
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which replaces `folder` at the end of the context.

    After an error, or if the process is killed while the context is open, `folder` is as it was
    before. Of several writers the last one wins, and none fails.
    """
    part = _unique(folder, PART)
    part.mkdir(parents=True)
    try:
        yield part
        keep_to_owner(part)
        _replace_folder(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def make_room() -> str:
    """What a user can do about a full disk, as a clause; which disk it is, is rarely known."""
    folder = Path(tempfile.gettempdir())
    if folder.name.startswith(TEMPORARY):  # of this process, see `temporary_files`
        folder = folder.parent
    return f"make room, or set TMPDIR (now {folder}) to another folder"


@contextmanager
def temporary_files() -> Iterator[None]:
    """Context in which the temporary files of this process are in a folder of its own in $TMPDIR.

    The folders of processes of this machine and user that were killed are deleted.
    """
    try:
        root = Path(tempfile.gettempdir())
    except OSError as error:
        raise ConfigError(
            f"no temporary file can be written ({error.strerror}); set TMPDIR to a folder with "
            "free space."
        ) from error
    before = tempfile.tempdir
    for left in root.glob(f"{TEMPORARY}*"):
        if has_ended(left.name.removeprefix(TEMPORARY)):
            shutil.rmtree(left, ignore_errors=True)
    own = root / f"{TEMPORARY}{this_process()}"
    try:
        own.mkdir(mode=0o700)
    except OSError:  # such as a full disk, which the first temporary file meets too
        yield
        return
    tempfile.tempdir = str(own)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(own, ignore_errors=True)


def keep(path: Path, content: bytes) -> None:
    """Write a file of the cache that saves time later, if the cache can be written to.

    What killed writers of the same file have left is deleted. A writer at the same time may lose
    its part, but the file is there.
    """
    with suppress(OSError):
        make_cache_dir()
        write_whole(path, content)
        for part in path.parent.glob(f"{glob.escape(path.name)}.*{PART}"):
            part.unlink(missing_ok=True)


def delete_parts(folder: Path) -> None:
    """Delete what killed writers left in a folder in which nobody writes now."""
    for path in folder.glob(f"*{PART}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sqlite_file(url: str) -> Path | None:
    """The file of a database URL; None for other databases, and for one in memory."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is not a number
        return None
    memory = parsed.database in (None, "", ":memory:")
    return None if memory or parsed.get_backend_name() != "sqlite" else Path(str(parsed.database))


def require_database_url(name: str, url: str) -> None:
    """ConfigError, without any part of a password, for what is not the URL of a database.

    `name` is what the user has set. A password with an @ or a slash may look like a host or a port,
    and errors quote those.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        host = make_url(url).host or ""
    except (ArgumentError, ValueError):
        host = "@"
    if "@" in host:
        raise ConfigError(
            f"{name} is {without_password(url)!r}, which is not the URL of a database; expected "
            "one such as postgresql+psycopg2://USER@HOST/NAME, with %40 for an @, %3A for a colon "
            "and %2F for a slash in a password."
        )


@contextmanager
def sqlite_lock(url: str) -> Iterator[None]:
    """Context that one process at a time enters to create the tables of a sqlite database.

    The lock is a file beside the database. Other databases, and one in a folder that cannot be
    written, are not locked.
    """
    path = sqlite_file(url)
    lock: AbstractContextManager[object] = nullcontext()
    if path is not None:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        if os.access(path.parent, os.W_OK):
            lock = FileLock(f"{path.absolute()}.lock")
    with lock:
        yield


def _unique(path: Path, suffix: str) -> Path:
    """A name beside `path` that no other writer has, whatever its process, thread or machine."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}{suffix}")


def _replace_folder(part: Path, folder: Path) -> None:
    """Rename `part` to `folder`; a folder cannot be renamed onto one with content."""
    while True:
        old = _unique(folder, PART)
        with suppress(FileNotFoundError):
            folder.rename(old)
        try:
            part.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue  # another writer was faster
        finally:
            shutil.rmtree(old, ignore_errors=True)
        return


def user_path(path: str | Path) -> Path:
    """A path with `~` and `~user` replaced, as a shell does: an unknown user's stays as it is."""
    return Path(os.path.expanduser(path))


def looked_for(path: str | Path | None) -> str:
    """Where a relative path was looked for, to end an error message; empty for an absolute one.

    `mlflow run` starts its command in the project's folder, whatever folder it was called from.
    """
    if path is None or user_path(path).is_absolute():
        return ""
    hint = (
        " (mlflow run starts in the project's folder: give an absolute path)"
        if "MLFLOW_RUN_ID" in os.environ
        else ""
    )
    return f"; looked for at {Path(path).absolute()}{hint}"


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of the content of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
