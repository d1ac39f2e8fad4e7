"""One answer from a results file of any format, and conversions of its values."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.row_files import LONE_SURROGATE, check_unicode

Value = Any  # of a results file: any type of JSON or Parquet, checked where it is read
Fields = Mapping[str, Value]
DIGEST_LENGTH = 16
CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


class RunFields(NamedTuple):
    """What a file states about the run of an answer; None is left to the parameters.

    `tool` is the program that wrote the log. Tools choose names of models and tasks, so parameters
    may rename them. `tool` is None for a table, whose names are taken as they are. `metric` is what
    says that an answer is correct, where there are several.
    """

    tool: str | None = None
    model: str | None = None
    condition: str | None = None
    source: str | None = None
    seed: str | None = None
    task: str | None = None
    format: str | None = None
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class ImportedAnswer:
    """One answer and its place in the file, for error messages; `correct` is None if it is missing.

    `columns` holds the optional columns of predictions.parquet that the file has, `read_as` how the
    name of the language was read, if it is no FLORES-200 code.
    """

    place: str
    run: RunFields
    language: str | None
    item_id: str
    passage_id: str
    correct: bool | None
    columns: Fields
    read_as: str = ""


def truth(value: Value, place: str, name: str) -> bool:
    """0, 1, true or false, as numbers or text; DataError for anything else."""
    words = {"true": 1.0, "false": 0.0}
    number = value
    if isinstance(value, str):
        try:
            number = words.get(value.strip().lower()) if value.isalpha() else float(value)
        except ValueError:
            number = None
    if isinstance(number, bool | int | float) and number in (0, 1):
        return bool(number)
    hint = ""
    if isinstance(number, float) and 0 < number < 1:
        hint = (
            "; a score between 0 and 1 is not a single answer: choose another metric, or write one "
            "row per attempt, each with its own seed"
        )
    raise DataError(f"{place}: {name} must be 0, 1, true or false but is {value!r}{hint}.")


def digest(value: Value) -> str:
    """A sha256, shortened, of a document or a prompt, which must be the same in all runs."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def check_finite(value: Value, place: str, name: str, item_id: str, language: str | None) -> None:
    """Raise DataError for NaN or an infinity, as a number or as text, by item and language.

    A model whose weights or activations overflow gives such scores, and the first choice wins.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        return
    if not math.isfinite(number):
        raise DataError(
            f"{place}: {name} of item {item_id!r}{f' in {language}' if language else ''} is "
            f"{number}, which is not a score; the model's scores cannot be used."
        )


def is_empty(value: Value) -> bool:
    """Whether a value is missing: null, an empty cell, or the NaN that pandas writes for one."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def text_of(value: Value, place: str, name: str) -> str:
    """An id or a name: non-empty text or a whole number; DataError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {name} must be text but is {value!r}.")
    check_unicode(place, name, value)
    return value


def writable(text: str) -> str:
    """Generated text with halves of surrogate pairs, which UTF-8 cannot hold, as U+FFFD."""
    return LONE_SURROGATE.sub("\ufffd", text)


def passage_in(fields: Fields, names: Iterable[str], config: ImportConfig, place: str) -> str:
    """The passage id in the first non-empty field of `names`, or in the one the parameter names.

    DataError if there is no such field.
    """
    if config.passage is not None:
        names = (config.passage,)
    names = tuple(names)
    field = next((name for name in names if not is_empty(fields.get(name))), None)
    if field is None:
        raise DataError(
            f"{place}: there is no field {' or '.join(names)}; set passage=FIELD to the field that "
            f"identifies passages, one of {', '.join(fields)}."
        )
    return text_of(fields[field], place, field)


def item_in(fields: Fields, default: str) -> str:
    """The item id that `tasks.belebele` makes, if the fields are those of Belebele."""
    link, number = fields.get("link"), str(fields.get("question_number"))
    return f"{link}#{int(number)}" if link and number.isdecimal() else default


def require(fields: Fields, names: Iterable[str], place: str, parameter: str | None = None) -> None:
    """Raise DataError that lists the missing and the present fields, if one is missing."""
    if missing := [name for name in names if name not in fields]:
        reason = f" (named by the parameter {parameter})" if parameter else ""
        raise DataError(
            f"{place}: there is no field {' and no '.join(missing)}{reason}; the fields are "
            f"{', '.join(map(str, fields)) or 'none'}."
        )
