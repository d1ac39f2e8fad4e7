"""Leases: of all processes on all machines, one at a time does a piece of work.

A lease is a row of the table `isogloss_leases`, in MLflow's own database or in the one that
$ISOGLOSS_LEASES names. Its holder renews it from a thread while it works. Whoever waits takes it
over when it has expired by the database's clock, or when its holder was a process of this machine
that is gone. A holder that finds its lease taken over (it was stopped, or cut off) must not publish
its results: `commit` names the run with the results, in one statement that only the holder can do,
before that run is marked as finished. If the holder dies in between, the next one marks the run.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache

import mlflow
import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from isogloss.errors import ConfigError, LeaseLostError, TrackingError
from isogloss.files import require_database_url, sqlite_file
from isogloss.formatting import without_password
from isogloss.tracking.lease_table import Database, Holder, cause, is_gone

logger = logging.getLogger(__name__)

LEASES = "ISOGLOSS_LEASES"  # a database URL, in place of MLflow's
SECONDS = "ISOGLOSS_LEASE_SECONDS"
DEFAULT_SECONDS = 60.0
LONGEST_POLL = 2.0  # seconds between two looks at a lease that another process holds
DATABASES = ("sqlite", "postgresql")
ATTEMPTS = 5  # of a statement, one second apart


def _clock() -> float:
    """Seconds, also those in which this process or the machine was suspended."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


def lease_seconds() -> float:
    """How long a lease lasts without being renewed: $ISOGLOSS_LEASE_SECONDS or 60."""
    text = os.environ.get(SECONDS, str(DEFAULT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise ConfigError(f"{SECONDS} must be between 1 and 86400 but is {text!r}.")
    return seconds


def lease_url() -> str | None:
    """The database of leases: $ISOGLOSS_LEASES, or MLflow's own; None if there is neither."""
    url = os.environ.get(LEASES) or mlflow.get_tracking_uri()
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme in DATABASES:
        require_database_url(LEASES if LEASES in os.environ else "MLFLOW_TRACKING_URI", url)
        path = sqlite_file(url)
        if path is None:
            return url
        absolute = sql.make_url(url).set(database=str(path.absolute()))
        return absolute.render_as_string(hide_password=False)
    if LEASES in os.environ:
        raise ConfigError(
            f"{LEASES} must begin with sqlite:/// or postgresql+psycopg2:// but is "
            f"{without_password(url)!r}."
        )
    return None


def local_exclusion() -> str | None:
    """Why only processes that share a file system exclude each other; None if all machines do."""
    if lease_url() is not None:
        return None
    scheme = mlflow.get_tracking_uri().partition(":")[0].partition("+")[0]
    reason = (
        "MLflow's own database is not known here"
        if scheme in ("http", "https")
        else f"leases are kept in PostgreSQL or SQLite and MLflow's store is {scheme!r}"
    )
    return (
        "two machines may compute the same at the same time: only processes that share the folder "
        f"of unfinished work know what the others compute, because {reason}; where several "
        f"machines work, set {LEASES} to a database that all of them reach, such as "
        "postgresql+psycopg2://USER@HOST/NAME"
    )


@cache
def say_local_exclusion() -> None:
    """Log once, in a process, that only processes that share a file system exclude each other."""
    if limit := local_exclusion():
        logger.info(limit)


@cache
def _database(url: str) -> Database:
    return Database(url)


@dataclass
class Lease:
    """A lease that this process holds, or none where there is no database.

    `left` is the run in which a holder before this one did the work, `left_whole` whether that run
    has all its results. `taken_over` is whether that holder did not give the lease back, `waited`
    whether another process had it when this one asked.
    """

    name: str = ""
    database: Database | None = None
    holder: str = ""
    seconds: float = DEFAULT_SECONDS
    left: str | None = None
    left_whole: bool = False
    taken_over: bool = False
    waited: bool = False
    _renewed: float = field(default_factory=_clock)
    _lost: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def excludes(self) -> bool:
        """Whether it excludes processes of other machines."""
        return self.database is not None

    def require(self) -> None:
        """Raise LeaseLostError if another process has taken the lease over; takes no time.

        If the database does not answer, the work continues.
        """
        if self.database is None or self._ended.is_set():
            return
        if not self._lost.is_set() and _clock() - self._renewed > self.seconds:
            with suppress(SQLAlchemyError):
                self.renew()
        if self._lost.is_set():
            raise self._error()

    def renew(self) -> None:
        """Renew the lease, or note that it is lost."""
        if self.database is None:
            return
        at = _clock()
        if self.database.update(self.name, self.holder, expires=self.database.now + self.seconds):
            self._renewed = at
        else:
            self._lost.set()

    def record_run(self, run_id: str, *, committed: bool = False) -> None:
        """Record the run in which the work is done; LeaseLostError if the lease is lost."""
        if self.database is None:
            return
        expires = self.database.now + self.seconds
        for attempt in range(ATTEMPTS):
            try:
                held = self.database.update(
                    self.name, self.holder, run_id=run_id, committed=committed, expires=expires
                )
                break
            except SQLAlchemyError as error:
                if attempt == ATTEMPTS - 1:
                    raise TrackingError(
                        f"the database of leases {self.database.shown} does not answer "
                        f"({cause(error)}); running the same command again uses what is on disk."
                    ) from error
                time.sleep(1.0)
        if not held:
            self._lost.set()
            raise self._error()

    def commit(self, run_id: str) -> None:
        """Record that a run has all results, before it is marked as finished."""
        self.record_run(run_id, committed=True)

    def is_anothers(self, run_id: str) -> bool:
        """Whether the lease is lost to a process that has resumed the same run."""
        if self.database is None:
            return False
        with suppress(SQLAlchemyError):
            row = self.database.read(self.name)
            return row is not None and row["holder"] != self.holder and row["run_id"] == run_id
        return False

    @property
    def lost(self) -> bool:
        """Whether another process is known to have taken the lease over."""
        return self._lost.is_set()

    def release(self, *, done: bool) -> None:
        """Give the lease back; `done` forgets it. It expires if the database does not answer."""
        self._ended.set()
        if self.database is None:
            return
        with suppress(SQLAlchemyError):
            if done:
                self.database.delete(self.name, self.holder)
            else:
                self.database.update(self.name, self.holder, holder=None, expires=0.0)

    def keep(self) -> None:
        """Renew until the lease is released or lost: the work of a thread."""
        while not self._ended.wait(self.seconds / 4):
            try:
                self.renew()
            except SQLAlchemyError as error:
                logger.debug(f"the lease of {_short(self.name)} is not renewed: {cause(error)}")
            except MemoryError:
                pass  # the work may go on, and needs its lease
            if self._lost.is_set():
                logger.error(f"{self._error()}")
                return

    def _error(self) -> LeaseLostError:
        return LeaseLostError(
            f"another process has taken over {_short(self.name)}, because this one did not renew "
            f"its lease for {self.seconds:g} seconds (it was stopped or cut off from the "
            f"database); the same command finds the other's results."
        )


@contextmanager
def lease(name: str) -> Iterator[Lease]:
    """Hold the lease of that name within the context; waits while another process holds it.

    Without a database, the context is one of nothing.
    """
    url = lease_url()
    if url is None:
        say_local_exclusion()
        yield Lease(name)
        return
    held = _acquire(_database(url), name, lease_seconds())
    threading.Thread(target=held.keep, name=f"lease {name}", daemon=True).start()
    try:
        yield held
    except BaseException:
        held.release(done=False)
        raise
    held.release(done=True)


def _acquire(database: Database, name: str, seconds: float) -> Lease:
    """Wait for a lease and take it. TrackingError if the database does not answer."""
    holder, seen, failures = Holder.here(), None, 0
    while True:
        try:
            row = database.read(name)
            if row is None:
                database.add(name)
                row = database.read(name)
            gone = row is not None and row["holder"] is not None and is_gone(row)
            free = row is not None and (row["holder"] is None or row["over"] or gone)
            if (
                row is not None
                and free
                and database.take(name, holder, seconds, row["holder"] if gone else None)
            ):
                over = row["holder"] is not None
                if over:
                    logger.warning(
                        f"{_shown(row)} no longer computes {_short(name)}; this one takes over"
                    )
                left = row["run_id"], row["committed"], over, seen is not None
                return Lease(name, database, holder.id, seconds, *left)
            failures = 0
        except DBAPIError as error:
            failures += 1
            if failures == ATTEMPTS:
                raise TrackingError(
                    f"the database of leases {database.shown} does not answer ({cause(error)})."
                ) from error
            row = None
            with suppress(TrackingError):
                database.create()  # it may have been deleted
        if row is not None and not free and row["holder"] != seen:
            seen = row["holder"]
            logger.info(
                f"another process is computing {_short(name)}; waiting for it ({_shown(row)})"
            )
        time.sleep(min(LONGEST_POLL, seconds / 8))


def _shown(row: "sql.RowMapping") -> str:
    return f"process {row['pid']} of {row['host']}"


def _short(name: str) -> str:
    """A name in messages: that of the work folder, with twelve characters of the fingerprint."""
    kind, _, fingerprint = name.rpartition("-")
    return f"{kind}-{fingerprint[:12]}"
