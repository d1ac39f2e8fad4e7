"""Tables of answers: CSV, TSV, Parquet or JSON lines, one row per answer."""

import math
from collections.abc import Sequence

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.importers.fields import (
    ImportedAnswer,
    RunFields,
    Value,
    is_empty,
    language_in,
    passage_in,
    require,
    text_of,
    truth,
)
from isogloss.row_files import Row

NAMES = ("model", "condition", "source", "seed", "task", "format")
MINIMUM = {"answer": 0, "prediction": -1, "forced": 0, "greedy": -1, "tokens": 0, "words": 0}


def read(rows: Sequence[Row], config: ImportConfig) -> list[ImportedAnswer]:
    """One answer per row; DataError, with file and line, for a missing column or invalid value."""
    correct = config.metric or "correct"
    required = ["item_id", config.passage or "passage_id", correct]
    if config.language is None:
        required.insert(0, "language")
    answers = []
    for place, values in rows:
        require(values, required, place)
        is_correct = truth(values[correct], place, correct)
        stated = {name: values[name] for name in NAMES if not is_empty(values.get(name))}
        if "seed" in stated:
            stated["seed"] = _whole(stated["seed"], place, "seed", 0)
        run = RunFields(**{name: text_of(value, place, name) for name, value in stated.items()})
        answers.append(
            ImportedAnswer(
                place,
                run,
                language_in(values, ("language",), config, place),
                text_of(values["item_id"], place, "item_id"),
                passage_in(values, ("passage_id",), config, place),
                is_correct,
                _columns(values, is_correct, place),
            )
        )
    return answers


def _columns(values: dict[str, Value], correct: bool, place: str) -> dict[str, Value]:
    columns: dict[str, Value] = {
        name: _whole(values[name], place, name, least)
        for name, least in MINIMUM.items()
        if not is_empty(values.get(name))
    }
    if not is_empty(values.get("valid")):
        columns["valid"] = truth(values["valid"], place, "valid")
    if not is_empty(values.get("gold_logprob")):
        columns["gold_logprob"] = _number(values["gold_logprob"], place, "gold_logprob")
    if isinstance(values.get("text"), str):
        columns["text"] = values["text"]
    if isinstance(logprobs := values.get("choice_logprobs"), list) and logprobs:
        columns["choice_logprobs"] = [
            _number(logprob, place, "choice_logprobs") for logprob in logprobs
        ]
    if {"answer", "prediction"} <= columns.keys():
        answer, prediction = columns["answer"], columns["prediction"]
        if (answer == prediction) != correct:
            raise DataError(
                f"{place}: correct is {correct} but prediction is {prediction} and answer is "
                f"{answer}."
            )
    return columns


def _whole(value: Value, place: str, name: str, least: int) -> int:
    """A whole number; pandas writes 3.0 for 3 in a column with missing values."""
    number = _number(value, place, name)
    if number != int(number) or number < least:
        raise DataError(
            f"{place}: {name} must be a whole number of at least {least} but is {value!r}."
        )
    return int(number)


def _number(value: Value, place: str, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{place}: {name} must be a finite number but is {value!r}.")
    return number
