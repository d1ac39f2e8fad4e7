"""What a file says of one answer, whatever its format, and how values in it are read."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.languages import table

CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
CODE_LAST = re.compile(r"(?:(?P<stem>.*)[^0-9A-Za-z])?(?P<code>[a-z]{3}_[A-Z][a-z]{3})")


class Said(NamedTuple):
    """What a file says an answer is of; None is what it leaves to the parameters.

    `tool` is the program whose log it is: it calls models and tasks as it likes, so that parameters
    may rename them. It is None for a table, whose names are meant.
    """

    tool: str | None = None
    model: str | None = None
    condition: str | None = None
    source: str | None = None
    seed: str | None = None
    task: str | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """One answer and the place that an error about it names.

    `columns` are optional ones of predictions.parquet, those that the file has.
    """

    place: str
    said: Said
    language: str | None
    item_id: str
    passage_id: str
    correct: bool
    columns: Mapping[str, Any]


def truth(value: Any, place: str, name: str) -> bool:
    """0, 1, true or false, as numbers or text; DataError for anything else."""
    known = {"true": 1.0, "false": 0.0}
    number = value
    if isinstance(value, str):
        try:
            number = known.get(value.strip().lower()) if value.isalpha() else float(value)
        except ValueError:
            number = None
    if isinstance(number, bool | int | float) and number in (0, 1):
        return bool(number)
    hint = ""
    if isinstance(number, float) and 0 < number < 1:
        hint = (
            "; a score in between is no single answer: name another metric, or give each try as a "
            "row with a seed of its own"
        )
    raise DataError(f"{place}: {name} must be 0, 1, true or false but is {value!r}{hint}.")


def is_empty(value: Any) -> bool:
    """Whether there is nothing: null, an empty cell, or pandas' NaN for one."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def text_of(value: Any, place: str, name: str) -> str:
    """An id or a name: text that is not empty, or a whole number; DataError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {name} must be text but is {value!r}.")
    return value


def language_in(
    fields: Mapping[str, Any],
    names: Iterable[str],
    config: ImportConfig,
    place: str,
    name: str = "",
) -> str | None:
    """The language that fields say, or else the code at the end of a task's `name`; perhaps none.

    `names` are the fields to look in; the parameter `language` may name another one. DataError if
    two of these places differ.
    """
    found = {}
    if config.language is not None and not CODE.fullmatch(config.language):
        names = (config.language,)
        require(fields, names, place, "language")
    for field in names:
        if not is_empty(fields.get(field)):
            found[field] = text_of(fields[field], place, field)
    if (last := CODE_LAST.fullmatch(name)) and last["code"] in table():
        found["the task's name"] = last["code"]
    if len(set(found.values())) > 1:
        listed = " but ".join(f"{value} in {field}" for field, value in found.items())
        raise DataError(f"{place}: the language is {listed}.")
    return next(iter(found.values()), None)


def task_in(name: str) -> str:
    """A task's name without the language at its end."""
    last = CODE_LAST.fullmatch(name)
    return last["stem"] if last and last["stem"] and last["code"] in table() else name


def passage_in(
    fields: Mapping[str, Any], names: Iterable[str], config: ImportConfig, place: str
) -> str:
    """The passage that the first of the fields `names`, or the one of the parameter, says."""
    if config.passage is not None:
        names = (config.passage,)
    names = tuple(names)
    field = next((name for name in names if not is_empty(fields.get(name))), None)
    if field is None:
        raise DataError(
            f"{place}: there is no {' or '.join(names)}; name what tells passages apart with "
            f"passage=FIELD, one of {', '.join(fields)}."
        )
    return text_of(fields[field], place, field)


def item_in(fields: Mapping[str, Any], otherwise: str) -> str:
    """An item's id as `tasks.belebele` makes it, if it is one of Belebele's."""
    link, number = fields.get("link"), str(fields.get("question_number"))
    return f"{link}#{int(number)}" if link and number.isdecimal() else otherwise


def require(
    fields: Mapping[str, Any], names: Iterable[str], place: str, parameter: str | None = None
) -> None:
    """Raise DataError naming the fields that are missing and those that are there."""
    if missing := [name for name in names if name not in fields]:
        asked = f", which the parameter {parameter} names" if parameter else ""
        raise DataError(
            f"{place}: there is no {' and no '.join(missing)}{asked}; there are "
            f"{', '.join(map(str, fields)) or 'none'}."
        )
