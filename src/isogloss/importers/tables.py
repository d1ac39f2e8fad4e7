"""Tables of answers: CSV, TSV, Parquet or JSON lines, one row an answer."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.importers.fields import (
    Given,
    Said,
    is_empty,
    language_in,
    passage_in,
    require,
    text_of,
    truth,
)
from isogloss.tasks.rows import Row, lines_of

NAMES = ("model", "condition", "source", "seed", "task", "format")
WHOLE = {"answer": 0, "prediction": -1, "forced": 0, "greedy": -1, "tokens": 0, "words": 0}


def read(rows: Sequence[Row], config: ImportConfig) -> list[Given]:
    """An answer a row; DataError, with file and line, for a column or value that cannot be."""
    correct = config.metric or "correct"
    needed = ["item_id", config.passage or "passage_id", correct]
    if config.language is None:
        needed.insert(0, "language")
    found = []
    for place, values in rows:
        require(values, needed, place)
        right = truth(values[correct], place, correct)
        here = {name: values[name] for name in NAMES if not is_empty(values.get(name))}
        if "seed" in here:
            here["seed"] = _whole(here["seed"], place, "seed", 0)
        said = Said(**{name: text_of(value, place, name) for name, value in here.items()})
        found.append(
            Given(
                place,
                said,
                language_in(values, ("language",), config, place),
                text_of(values["item_id"], place, "item_id"),
                passage_in(values, ("passage_id",), config, place),
                right,
                _columns(values, right, place),
            )
        )
    return found


def _columns(values: dict[str, Any], correct: bool, place: str) -> dict[str, Any]:
    columns: dict[str, Any] = {
        name: _whole(values[name], place, name, least)
        for name, least in WHOLE.items()
        if not is_empty(values.get(name))
    }
    if not is_empty(values.get("valid")):
        columns["valid"] = truth(values["valid"], place, "valid")
    if not is_empty(values.get("gold_logprob")):
        columns["gold_logprob"] = _number(values["gold_logprob"], place, "gold_logprob")
    if isinstance(values.get("text"), str):
        columns["text"] = values["text"]
    if isinstance(logprobs := values.get("choice_logprobs"), list) and logprobs:
        columns["choice_logprobs"] = [_number(each, place, "choice_logprobs") for each in logprobs]
    if {"answer", "prediction"} <= columns.keys():
        answer, prediction = columns["answer"], columns["prediction"]
        if (answer == prediction) != correct:
            raise DataError(
                f"{place}: correct is {correct} but prediction is {prediction} and answer {answer}."
            )
    return columns


def _whole(value: Any, place: str, name: str, least: int) -> int:
    """A whole number; pandas writes it as 3.0 where a column has gaps."""
    number = _number(value, place, name)
    if number != int(number) or number < least:
        raise DataError(f"{place}: {name} must be a whole number from {least} but is {value!r}.")
    return int(number)


def _number(value: Any, place: str, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{place}: {name} must be a finite number but is {value!r}.")
    return number


def read_separated(path: Path, separator: str) -> list[Row]:
    """Rows of a CSV or TSV file below a line of column names; all values are text."""
    lines = csv.reader(lines_of(path), delimiter=separator, strict=True)
    rows: list[Row] = []
    header: list[str] = []
    while True:
        place = f"{path}:{lines.line_num + 1}"
        try:
            values = next(lines, None)
        except csv.Error as error:
            raise DataError(f"{place}: the row cannot be read: {error}.") from None
        if values is None:
            return rows
        if not values:
            continue
        if not header:
            header = values
            if len(set(header)) < len(header):
                raise DataError(f"{place}: expected names of columns, each once, but got {header}.")
        elif len(values) != len(header):
            raise DataError(f"{place}: {len(values)} values but {len(header)} columns.")
        else:
            rows.append(Row(place, dict(zip(header, values, strict=True))))
