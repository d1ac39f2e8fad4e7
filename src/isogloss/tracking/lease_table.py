"""The table of leases in a database, and the processes that hold them; see `leases`."""

import os
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from isogloss.errors import ConfigError, TrackingError
from isogloss.files import sqlite_lock
from isogloss.formatting import without_password
from isogloss.process_ids import machine, started_at

CONNECT = {"sqlite": {"timeout": 120}, "postgresql": {"connect_timeout": 10}}
CREATION_ATTEMPTS = 5  # to create the table, while another process does so

TABLE = sql.Table(
    "isogloss_leases",
    sql.MetaData(),
    sql.Column("name", sql.String(120), primary_key=True),
    sql.Column("attempt", sql.Integer, nullable=False),  # how often it was taken
    sql.Column("holder", sql.String(36)),  # NULL: free
    sql.Column("host", sql.String(120)),
    sql.Column("machine", sql.String(40)),
    sql.Column("pid", sql.Integer),
    sql.Column("started", sql.String(40)),
    sql.Column("expires", sql.Double, nullable=False),  # seconds since 1970, by the database
    sql.Column("run_id", sql.String(64)),  # in which the last holder did the work
    sql.Column("committed", sql.Boolean, nullable=False),  # run_id has all results
)
C = TABLE.c


@dataclass(frozen=True)
class Holder:
    """A process that asks for a lease; `id` is of this request alone."""

    id: str
    host: str
    machine: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> "Holder":
        """A request of this process."""
        pid = os.getpid()
        return cls(str(uuid.uuid4()), socket.gethostname()[:120], machine(), pid, started_at(pid))


class Database:
    """The table of leases in one database, which is created if it is not there."""

    def __init__(self, url: str) -> None:
        self.shown = without_password(url)
        backend = url.partition(":")[0].partition("+")[0]
        try:
            self.engine = sql.create_engine(url, poolclass=NullPool, connect_args=CONNECT[backend])
        except (SQLAlchemyError, ImportError) as error:
            raise ConfigError(f"leases cannot be kept in {self.shown} ({cause(error)}).") from error
        # The database's clock, in seconds since 1970.
        self.now: sql.ColumnElement[float] = (
            (sql.func.julianday("now") - 2440587.5) * 86400.0
            if backend == "sqlite"
            else sql.cast(sql.extract("epoch", sql.func.clock_timestamp()), sql.Double)
        )
        with sqlite_lock(url):
            self.create()

    def create(self) -> None:
        """Create the table unless it is there."""
        for attempt in range(CREATION_ATTEMPTS):
            try:
                TABLE.create(self.engine, checkfirst=True)
                return
            except SQLAlchemyError as error:  # another process creates it
                if attempt == CREATION_ATTEMPTS - 1:
                    raise TrackingError(
                        f"leases cannot be kept in {self.shown} ({cause(error)}); set "
                        f"ISOGLOSS_LEASES to a database in which tables can be created."
                    ) from error
                time.sleep(0.3)

    def read(self, name: str) -> "sql.RowMapping | None":
        """The row of a lease, with `over`: whether it has expired."""
        query = sql.select(TABLE, (C.expires < self.now).label("over")).where(C.name == name)
        with self.engine.connect() as connection:
            return connection.execute(query).mappings().first()

    def take(self, name: str, holder: Holder, seconds: float, from_holder: str | None) -> bool:
        """Take a lease that is free, expired or held by `from_holder`; whether it was."""
        values = {
            "holder": holder.id,
            "host": holder.host,
            "machine": holder.machine,
            "pid": holder.pid,
            "started": holder.started,
            "expires": self.now + seconds,
        }
        free = sql.or_(C.holder.is_(None), C.expires < self.now, C.holder == from_holder)
        with self.engine.begin() as connection:
            taken = connection.execute(
                sql.update(TABLE)
                .where(C.name == name, free)
                .values(attempt=C.attempt + 1, **values)
            )
            return taken.rowcount == 1

    def add(self, name: str) -> None:
        """Add a free lease, unless another process does so first."""
        row = {"name": name, "attempt": 0, "expires": 0.0, "committed": False}
        with suppress(sql.exc.IntegrityError), self.engine.begin() as connection:
            connection.execute(sql.insert(TABLE).values(row))

    def update(self, name: str, holder: str, /, **values: object) -> bool:
        """Change the row of a lease if it is still held; whether it is."""
        with self.engine.begin() as connection:
            changed = connection.execute(
                sql.update(TABLE).where(C.name == name, C.holder == holder).values(**values)
            )
            return changed.rowcount == 1

    def delete(self, name: str, holder: str) -> None:
        """Delete a lease that is still held."""
        with self.engine.begin() as connection:
            connection.execute(sql.delete(TABLE).where(C.name == name, C.holder == holder))


def is_gone(row: "sql.RowMapping") -> bool:
    """Whether the holder of a lease was a process of this machine that has ended."""
    same_machine: bool = row["machine"] == machine()
    return same_machine and started_at(row["pid"]) != row["started"]


def cause(error: BaseException) -> str:
    """The first line of a database's error."""
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
