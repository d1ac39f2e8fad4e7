"""Rows of a request as items, checked field by field."""

import string
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from isogloss.errors import DataError
from isogloss.languages import language
from isogloss.tasks import Item
from isogloss.tasks.checks import FEWEST_OPTIONS

MOST_OPTIONS = len(string.ascii_uppercase)  # one letter each

Row = Mapping[Hashable, Any]  # Any: parsed JSON, checked here


def row_item(
    number: int, row: Row, default_language: str, most_options: int = MOST_OPTIONS
) -> Item:
    """Return the item of row `number`, in `default_language` if the row names no language.

    Texts are taken as they are. Raises DataError, or ConfigError for the language, if a field is
    missing or has another type; the message names the field and what is accepted.
    """
    code = row.get("language")
    return Item(
        item_id=str(number),
        passage_id=str(number),
        language=default_language if _absent(code) else language(_text("language", code)).code,
        passage=_text("passage", row.get("passage"), may_be_empty=True),
        question=_text("question", row.get("question")),
        options=_options(row.get("options"), most_options),
        answer=0,  # unknown; no answer depends on it
    )


def _options(value: object, most: int) -> tuple[str, ...]:
    expected = f"a list of {FEWEST_OPTIONS} to {most} texts"
    if isinstance(value, np.ndarray):
        value = value.tolist()  # not a list if the array has no dimension
    if not isinstance(value, list | tuple):
        raise DataError(f"options must be {expected} but is {_shown(value)}.")
    if not FEWEST_OPTIONS <= len(value) <= most:
        raise DataError(f"options must be {expected} but has {len(value)}.")
    return tuple(_text(f"options[{place}]", option) for place, option in enumerate(value))


def _text(field: str, value: object, *, may_be_empty: bool = False) -> str:
    """Return the value if it is text, and not blank unless `may_be_empty`; else raise DataError."""
    expected = "text, empty where there is none," if may_be_empty else "text"
    if not isinstance(value, str) or not (may_be_empty or value.strip()):
        raise DataError(f"{field} must be {expected} but is {_shown(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{field} must be text but holds half of a surrogate pair.") from None
    return value


def _absent(value: Any) -> bool:  # Any: pandas' overloads exclude object
    """Whether a row has no such value: pandas has NaN where JSON had null or no key."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _shown(value: object) -> str:
    if _absent(value):
        return "missing"
    if isinstance(value, str) and not value.strip():
        return "empty"
    return " ".join(f"{value!r:.60}".split())
