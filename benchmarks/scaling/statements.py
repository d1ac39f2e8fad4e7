"""Counts what a process asks of the tracking database: statements, and rows that come back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event


@dataclass
class Statements:
    """What was asked: the number of SELECTs and of other statements, and rows of SELECTs."""

    selects: int = 0
    writes: int = 0
    rows: int = 0


@contextmanager
def counted() -> Iterator[Statements]:
    """Count the statements of all engines within the context."""
    count = Statements()

    def before(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            count.selects += 1
        elif statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            count.writes += 1
        driver = connection.connection.dbapi_connection
        if connection.dialect.name == "sqlite":
            # sqlite3 does not know how many rows there are; it calls this for each that is read.
            def row(_: Any, values: tuple[Any, ...]) -> tuple[Any, ...]:
                count.rows += 1
                return values

            driver.row_factory = row
            cursor.row_factory = row

    def after(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if connection.dialect.name != "sqlite" and statement.lstrip()[:6].upper() == "SELECT":
            count.rows += max(0, cursor.rowcount)

    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", after)
    try:
        yield count
    finally:
        event.remove(Engine, "before_cursor_execute", before)
        event.remove(Engine, "after_cursor_execute", after)
