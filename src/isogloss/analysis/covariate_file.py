"""The user's own covariates of languages, from a CSV file."""

import math
import re
from pathlib import Path

from isogloss.analysis.adjusted_contrast import SHARED_METRIC, shared_metric
from isogloss.errors import DataError
from isogloss.files import looked_for
from isogloss.languages import table
from isogloss.row_files import Row, read_csv

LANGUAGE = "language"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _.-]{0,39}")  # allowed in the name of a metric


def read_covariates(path: Path) -> dict[str, dict[str, float]]:
    """The value of each covariate by language code; empty cells have no value.

    The file has a column `language` with FLORES-200 codes and at least one column of numbers, whose
    name is that of the covariate. Raises DataError, with file and line, for anything else.
    """
    if not path.is_file():
        raise DataError(
            f"{path} is not a file; expected a CSV file of covariates{looked_for(path)}."
        )
    rows = read_csv(path)
    if not rows:
        raise DataError(f"{path} has no rows.")
    names = _names(path, list(rows[0].values))
    values: dict[str, dict[str, float]] = {name: {} for name in names}
    seen: set[str] = set()
    for row in rows:
        code = _code(row, seen)
        seen.add(code)
        for name in names:
            if text := str(row.values[name]).strip():
                values[name][code] = _number(row, name, text)
    return values


def _names(path: Path, columns: list[str]) -> list[str]:
    if LANGUAGE not in columns:
        raise DataError(
            f"{path} has no column {LANGUAGE!r}; expected {LANGUAGE!r} and columns of numbers, but "
            f"it has {', '.join(columns)}."
        )
    names = [name for name in columns if name != LANGUAGE]
    if not names:
        raise DataError(f"{path} has no column of numbers beside {LANGUAGE!r}.")
    for name in names:
        if not NAME.fullmatch(name):
            raise DataError(
                f"{path}: the column name {name!r} is not possible; expected a letter, then up to "
                f"39 letters, digits, spaces, dots, hyphens or underscores."
            )
    if shared := shared_metric(names):
        raise DataError(f"{path}: " + SHARED_METRIC.format(*shared))
    return names


def _code(row: Row, seen: set[str]) -> str:
    code = str(row.values[LANGUAGE]).strip()
    if code not in table():
        raise DataError(
            f"{row.place}: unknown language {code!r}; expected a FLORES-200 code such as arb_Arab."
        )
    if code in seen:
        raise DataError(f"{row.place}: the language {code} occurs twice.")
    return code


def _number(row: Row, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{row.place}: {name} must be a finite number or empty but is {text!r}.")
    return value
