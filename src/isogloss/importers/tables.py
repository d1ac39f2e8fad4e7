"""Tables of answers: CSV, TSV, Parquet or JSON lines, one row per answer."""

import math
from collections.abc import Sequence

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.importers.answer_language import answer_language
from isogloss.importers.fields import (
    ImportedAnswer,
    RunFields,
    Value,
    check_finite,
    is_empty,
    passage_in,
    require,
    text_of,
    truth,
    writable,
)
from isogloss.predictions.table import DOCUMENT_DIGEST, PROMPT_DIGEST
from isogloss.row_files import Row
from isogloss.types import Missing

NAMES = ("model", "condition", "source", "seed", "task", "format")
CHOICES = {"answer", "prediction", "forced", "greedy"}
ROUNDING = 1e-3  # of log-likelihoods near 0
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
        language = answer_language(values, ("language",), config, place)
        item_id = text_of(values["item_id"], place, "item_id")
        for name in (correct, "gold_logprob"):
            check_finite(values.get(name), place, name, item_id, language.code)
        is_missing = is_empty(values[correct])
        if is_missing and config.missing is Missing.REFUSE:
            raise DataError(
                f"{place}: {correct} must be 0, 1, true or false but is {values[correct]!r}; set "
                "missing=drop to leave such answers out."
            )
        is_correct = None if is_missing else truth(values[correct], place, correct)
        stated = {name: values[name] for name in NAMES if not is_empty(values.get(name))}
        if "seed" in stated:
            stated["seed"] = _whole(stated["seed"], place, "seed", 0)
        run = RunFields(
            **{name: text_of(value, place, name) for name, value in stated.items()},
            metric=config.metric,
        )
        answers.append(
            ImportedAnswer(
                place,
                run,
                language.code,
                item_id,
                passage_in(values, ("passage_id",), config, place),
                is_correct,
                {} if is_correct is None else _columns(values, is_correct, place),
                language.read_as,
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
        columns["gold_logprob"] = _logprob(values["gold_logprob"], place, "gold_logprob")
    columns |= {
        name: text_of(values[name], place, name)
        for name in (DOCUMENT_DIGEST, PROMPT_DIGEST)
        if not is_empty(values.get(name))
    }
    if isinstance(values.get("text"), str):
        columns["text"] = writable(values["text"])
    if isinstance(logprobs := values.get("choice_logprobs"), list) and logprobs:
        columns["choice_logprobs"] = [
            _logprob(logprob, place, "choice_logprobs") for logprob in logprobs
        ]
        for name in CHOICES & columns.keys():
            if columns[name] >= len(logprobs):
                raise DataError(
                    f"{place}: {name} is {columns[name]} but choice_logprobs has {len(logprobs)} "
                    "choices, which are counted from 0."
                )
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


def _logprob(value: Value, place: str, name: str) -> float:
    """A log-likelihood; a probability, or one with the sign lost, is an error."""
    number = _number(value, place, name)
    if number > ROUNDING:
        raise DataError(f"{place}: {name} must be a log-likelihood, at most 0, but is {value!r}.")
    return number


def _number(value: Value, place: str, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        decimal_comma = isinstance(value, str) and "," in value
        hint = "; write decimals with a point" if decimal_comma else ""
        raise DataError(f"{place}: {name} must be a finite number but is {value!r}{hint}.")
    return number
