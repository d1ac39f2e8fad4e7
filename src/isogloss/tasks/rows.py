"""Rows of JSONL, CSV and Parquet files, each with the place that an error about it names."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from isogloss.errors import DataError


class Row(NamedTuple):
    """Values by column, and where they stand: `path:line` or `path row number`."""

    place: str
    values: dict[str, Any]


def lines_of(path: Path) -> Iterator[str]:
    """Lines with their ends as they are; DataError if they are not UTF-8."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def read_rows(path: Path) -> list[Row]:
    """Rows of a .jsonl, .csv or .parquet file; DataError names file and line of what is broken."""
    return READERS[path.suffix](path)


def read_jsonl(path: Path) -> list[Row]:
    """One object a line; empty lines count as lines but are no rows."""
    rows = []
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place}: the line is not JSON: {error}.") from None
        if not isinstance(values, dict):
            raise DataError(f"{place}: the line must be an object {{...}} but is {line.strip()!r}.")
        rows.append(Row(place, values))
    return rows


def read_csv(path: Path) -> list[Row]:
    """Values between commas, quoted by \", below a line of column names; all values are text."""
    lines = csv.reader(lines_of(path), strict=True)
    numbered = _numbered(path, lines)
    _, header = next(numbered, (0, []))
    if not any(header) or len(set(header)) < len(header):
        raise DataError(f"{path}:1: expected the names of columns, each once, but got {header}.")
    rows = []
    for number, values in numbered:
        if len(values) != len(header):
            raise DataError(
                f"{path}:{number}: {len(values)} values between commas but {len(header)} columns."
            )
        rows.append(Row(f"{path}:{number}", dict(zip(header, values, strict=True))))
    return rows


def read_parquet(path: Path) -> list[Row]:
    """Rows of a table, counted from 1; a null is None."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read().to_pylist()
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet table: {' '.join(str(error).split())}.") from None
    return [Row(f"{path} row {number}", values) for number, values in enumerate(table, start=1)]


READERS = {".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet}


def _numbered(path: Path, lines: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows of a csv reader with the number of the line that each begins in."""
    while True:
        number = lines.line_num + 1
        try:
            values = next(lines, None)
        except csv.Error as error:
            raise DataError(f"{path}:{number}: the row is not CSV: {error}.") from None
        if values is None:
            return
        if values:
            yield number, values
