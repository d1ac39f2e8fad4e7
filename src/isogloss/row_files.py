"""Rows of JSONL, CSV, TSV and Parquet files, each with the place that an error about it names.

Text files are UTF-8 and may be compressed by gzip, whatever their names.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple, cast

from isogloss.errors import DataError

SEPARATORS = (",", ";", "\t")
GZIP = b"\x1f\x8b"
# First bytes of other files that are given in place of text, and what to do with them.
NOT_TEXT = {
    b"PK\x03\x04": "a zip archive or a workbook; unpack it, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it, or compress it by gzip",
    b"\xfd7zXZ": "compressed by xz; unpack it, or compress it by gzip",
    b"BZh": "compressed by bzip2; unpack it, or compress it by gzip",
    b"PAR1": "a Parquet table; give it the extension .parquet",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}
LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")  # a Python string has no pairs
LONGEST_CELL = 2**31 - 1  # the limit of Python's csv is 131,072 characters; passages may be longer


class Row(NamedTuple):
    """Values by column and where the row is: `path:line` or `path row number`.

    Values are whatever the file format holds (JSON values, Parquet values, text).
    """

    place: str
    values: dict[str, Any]  # checked by the readers of columns


def extension(path: PurePath) -> str:
    """The extension that says what a file holds: in lower case, without the .gz behind it."""
    return PurePath(path.name.lower().removesuffix(".gz")).suffix


def stem(path: PurePath) -> str:
    """The name of a file without `extension` and .gz."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return PurePath(name).stem


def read_lines(path: Path) -> Iterator[str]:
    """Lines with their line ends, of plain or compressed text.

    DataError if the file is not UTF-8 (with the line), is cut, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if kind := next((what for sign, what in NOT_TEXT.items() if start.startswith(sign)), None):
            raise DataError(f"{path} is {kind}.")
        with _opened(path) as content, io.TextIOWrapper(content, "utf-8-sig", newline="") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        line = _first_not_utf8(path)
        raise DataError(f"{path} is not UTF-8 text in line {line}: {error.reason}.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged or truncated: {error}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _opened(path: Path) -> IO[bytes]:
    """The uncompressed bytes of a file."""
    with path.open("rb") as file:
        compressed = file.read(len(GZIP)) == GZIP
    return cast("IO[bytes]", gzip.open(path)) if compressed else path.open("rb")


def _first_not_utf8(path: Path) -> int:
    """The number of the first line that is not UTF-8."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError(f"{path} is UTF-8")


def read_rows(path: Path) -> list[Row]:
    """Rows of a file with an extension of READERS; DataError names file and line of a fault."""
    return READERS[extension(path)](path)


def parse_json(text: str) -> Any:  # JSON, checked by the caller
    """The value of a JSON text; ValueError also for a name that an object has twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {repeated!r} occurs twice")
    return values


def check_unicode(place: str, name: str, value: str) -> None:
    """Raise DataError for half of a surrogate pair, which JSON can hold and UTF-8 cannot."""
    if not value.isascii() and (halves := LONE_SURROGATE.findall(value)):
        raise DataError(
            f"{place}: {name} has {halves[0]!r}, half of a character; write both halves or none."
        )


def read_jsonl(path: Path) -> list[Row]:
    """Rows of a file with one JSON object per line; empty lines are skipped but counted."""
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            values = parse_json(line)
        except ValueError as error:
            raise DataError(f"{place}: the line is not JSON: {error}.") from None
        if not isinstance(values, dict):
            raise DataError(f"{place}: the line must be an object {{...}} but is {line.strip()!r}.")
        rows.append(Row(place, values))
    return rows


def read_csv(path: Path) -> list[Row]:
    """Rows of a file separated by commas, semicolons or tabs; see `read_separated`."""
    return read_separated(path, _separator(path))


def read_separated(
    path: Path, separator: str, *, quoted: bool = True, strict: bool = True
) -> list[Row]:
    """Rows of a file with separated values below a line of column names; all values are text.

    With `quoted` a value may be enclosed in double quotes, as in CSV; without it quotes are text.
    Without `strict`, text may follow the closing quote, as pandas and `datasets` read it.
    Empty lines are skipped. Raises DataError for a missing or repeated column name and for a row
    with another number of values.
    """
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(
        read_lines(path),
        delimiter=separator,
        strict=strict,
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


def _separator(path: Path) -> str:
    """The one of SEPARATORS that divides the column names into the most; DataError for a tie."""
    names = next((line for line in read_lines(path) if line.strip()), "")
    counts: dict[str, int] = {}
    for separator in SEPARATORS:
        try:
            counts[separator] = len(next(csv.reader([names], delimiter=separator, strict=True), []))
        except csv.Error:  # a quoted name that another separator follows
            counts[separator] = 1
    most = max(counts.values())
    best = [separator for separator in SEPARATORS if counts[separator] == most]
    if most > 1 and len(best) > 1:
        raise DataError(
            f"{path}:1: the column names may be separated by {' or '.join(map(repr, best))}; "
            "enclose names that contain one of them in double quotes."
        )
    return best[0]


def read_parquet(path: Path) -> list[Row]:
    """Rows of a Parquet table, numbered from 1; a null is None."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read()
        names = table.column_names
        if len(set(names)) < len(names):  # to_pylist keeps the last of them
            raise DataError(f"{path}: column names must be unique but are {names}.")
        rows = table.to_pylist()
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a Parquet table: {' '.join(str(error).split())}.") from None
    return [Row(f"{path} row {number}", values) for number, values in enumerate(rows, start=1)]


READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
