"""Storage of Optuna studies that workers share, with heartbeats that reveal killed workers.

In Optuna 5.0.0 RDBStorage alone has heartbeats: JournalStorage and GrpcStorageProxy have none, so
that a trial whose worker was killed stays RUNNING for ever. The journal file is nevertheless the
default, with heartbeats added (`compat.optuna`): SQLite is unreliable on network file systems, and
with two workers that report 240 dev scores per trial it took 4 to 5 s per trial, a journal 0.2 to
0.8 s.
"""

import time
from contextlib import suppress
from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from isogloss.compat import public_only
from isogloss.errors import ConfigError
from isogloss.files import require_database_url, sqlite_lock
from isogloss.formatting import without_password
from isogloss.hpo.journal import recover_journal
from isogloss.hpo.retry import quiet_optuna, retry_callback

HEARTBEAT = 5  # seconds between heartbeats
GRACE = 30  # seconds without a heartbeat after which a trial counts as killed
ATTEMPTS = 3  # to open a database


def open_storage(storage: str) -> BaseStorage:
    """Open the database at a URL, or else a journal file.

    A damaged journal is repaired. Raises ConfigError if the storage cannot be used.
    """
    if "://" in storage:
        require_database_url("storage", storage)
        return _open_database(storage)
    # Optuna's lock is a link to the path; a relative one would lead from the lock's folder, and
    # a worker that waits for a killed one would try again without a pause, for ever.
    path = Path(storage).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_broken_locks(path)
        recover_journal(path)
        return _open_journal(path)
    except OSError as error:
        raise ConfigError(
            f"storage {without_password(storage)!r} cannot be used ({error.strerror})."
        ) from error


def _remove_broken_locks(path: Path) -> None:
    """Remove locks of a journal that killed workers left, and that nobody waits for.

    Some lead nowhere, of an earlier version or a folder that was moved; some were being released.
    """
    for lock in path.parent.glob(f"{path.name}.lock*"):
        useless = lock.name.endswith(".rename") or not lock.exists()
        with suppress(FileNotFoundError):  # removed by another worker
            if lock.is_symlink() and useless and time.time() - lock.lstat().st_mtime > GRACE:
                lock.unlink()


def _open_journal(path: Path) -> JournalStorage:
    """A journal file with heartbeats; without them if only public interfaces may be used."""
    if public_only():
        return JournalStorage(JournalFileBackend(str(path)))
    from isogloss.compat.optuna import HeartbeatJournal

    return HeartbeatJournal(path, retry_callback(), interval=HEARTBEAT, grace=GRACE)


def _open_database(url: str) -> RDBStorage:
    from sqlalchemy.exc import SQLAlchemyError

    for attempt in range(ATTEMPTS):
        try:
            with sqlite_lock(url), quiet_optuna():
                return RDBStorage(
                    url,
                    heartbeat_interval=HEARTBEAT,
                    grace_period=GRACE,
                    heartbeat_stale_trial_callback=retry_callback(),
                )
        except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
            # Workers that create the tables at the same time make each other fail. RuntimeError is
            # Optuna's for a schema of another version.
            if attempt == ATTEMPTS - 1:
                cause = str(error).strip().splitlines()[0]
                hint = "; a database in PostgreSQL is postgresql+psycopg2://USER@HOST/NAME"
                raise ConfigError(
                    f"storage {without_password(url)!r} cannot be used ({cause})"
                    f"{hint if url.startswith('postgres') else ''}."
                ) from error
            time.sleep(1)
    raise AssertionError
