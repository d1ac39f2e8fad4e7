"""Checks that apply to the items of any file; errors name the place of the fault."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from isogloss.errors import DataError
from isogloss.row_files import Row, check_unicode
from isogloss.tasks.items import Item

FEWEST_OPTIONS, MOST_OPTIONS = 2, 10


class LocatedItem(NamedTuple):
    """An item and its place, as in `path:line`."""

    place: str
    item: Item


def text_of(row: Row, name: str) -> str:
    """The text in a column, unchanged; DataError if there is none."""
    value = value_of(row, name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{row.place}: {name} must be text but is {value!r}.")
    check_unicode(row.place, name, value)
    return value


def value_of(row: Row, name: str) -> Any:  # of any type; checked by the caller
    """The value in a column; DataError if there is no such column."""
    if name not in row.values:
        raise DataError(f"{row.place}: there is no {name}.")
    return row.values[name]


def check_options(place: str, options: Sequence[str]) -> None:
    """Raise DataError for too few or too many options or an empty one."""
    if not FEWEST_OPTIONS <= len(options) <= MOST_OPTIONS:
        raise DataError(
            f"{place}: an item must have {FEWEST_OPTIONS} to {MOST_OPTIONS} options but this one "
            f"has {len(options)}."
        )
    for number, option in enumerate(options, start=1):
        if not option.strip():
            raise DataError(f"{place}: option {number} is empty.")


def check_items(items: Sequence[LocatedItem]) -> None:
    """Check the items of one language against each other.

    Raises DataError for an empty id or question, a repeated item_id, and a passage_id with two
    different passages.
    """
    places: dict[str, str] = {}
    first_of_passage: dict[str, LocatedItem] = {}
    for place, item in items:
        for name in ("item_id", "passage_id", "question"):
            if not getattr(item, name).strip():
                raise DataError(f"{place}: {name} is empty.")
        if item.item_id in places:
            raise DataError(
                f"{place}: duplicate item {item.item_id!r}; the first is at {places[item.item_id]}."
            )
        places[item.item_id] = place
        first = first_of_passage.setdefault(item.passage_id, LocatedItem(place, item))
        if item.passage != first.item.passage:
            raise DataError(
                f"{place}: the text of passage {item.passage_id!r} differs from that at "
                f"{first.place}."
            )
