"""Rows of JSONL, CSV, TSV and Parquet files, each with the place that an error about it names."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from isogloss.errors import DataError


class Row(NamedTuple):
    """Values by column and where the row is: `path:line` or `path row number`.

    Values are whatever the file format holds (JSON values, Parquet values, text).
    """

    place: str
    values: dict[str, Any]  # checked by the readers of columns


def read_lines(path: Path) -> Iterator[str]:
    """Lines with their line ends; DataError if the file is not UTF-8 or cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def read_rows(path: Path) -> list[Row]:
    """Rows of a .jsonl, .csv or .parquet file; DataError names the file and line of a fault."""
    return READERS[path.suffix](path)


def read_jsonl(path: Path) -> list[Row]:
    """Rows of a file with one JSON object per line; empty lines are skipped but counted."""
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
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
    """Rows of a comma-separated file; see `read_separated`."""
    return read_separated(path, ",")


def read_separated(path: Path, separator: str, *, quoted: bool = True) -> list[Row]:
    """Rows of a file with separated values below a line of column names; all values are text.

    With `quoted` a value may be enclosed in double quotes, as in CSV; without it quotes are text.
    Empty lines are skipped. Raises DataError for a missing or repeated column name and for a row
    with another number of values.
    """
    reader = csv.reader(
        read_lines(path),
        delimiter=separator,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    header: list[str] = []
    rows = []
    while True:
        place = f"{path}:{reader.line_num + 1}"
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{place}: the row cannot be read: {error}.") from None
        if values is None:
            break
        if len(values) < 2 and not "".join(values).strip():
            continue
        if not header:
            header = values
            if len(set(header)) < len(header):
                raise DataError(f"{place}: column names must be unique but are {header}.")
        elif len(values) != len(header):
            raise DataError(f"{place}: {len(values)} values but {len(header)} columns.")
        else:
            rows.append(Row(place, dict(zip(header, values, strict=True))))
    if not header:
        raise DataError(f"{path}:1: expected a line of column names but the file is empty.")
    return rows


def read_parquet(path: Path) -> list[Row]:
    """Rows of a Parquet table, numbered from 1; a null is None."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read().to_pylist()
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet table: {' '.join(str(error).split())}.") from None
    return [Row(f"{path} row {number}", values) for number, values in enumerate(table, start=1)]


READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
