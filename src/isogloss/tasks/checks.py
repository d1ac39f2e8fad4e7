"""What holds for the items of any file: checked when it is loaded, with the place of a fault."""

from collections.abc import Sequence
from typing import NamedTuple

from isogloss.errors import DataError
from isogloss.tasks.items import Item

FEWEST_OPTIONS, MOST_OPTIONS = 2, 10


class Placed(NamedTuple):
    """An item and where it stands, as in `path:line`."""

    place: str
    item: Item


def check_options(place: str, options: Sequence[str]) -> None:
    """Raise DataError for too few or too many options or an empty one."""
    if not FEWEST_OPTIONS <= len(options) <= MOST_OPTIONS:
        raise DataError(
            f"{place}: an item has {FEWEST_OPTIONS} to {MOST_OPTIONS} options but this has "
            f"{len(options)}."
        )
    for number, option in enumerate(options, start=1):
        if not option.strip():
            raise DataError(f"{place}: option {number} is empty.")


def check_items(placed: Sequence[Placed]) -> None:
    """Check the items of one language against one another.

    Raises DataError for an empty id or question, an item_id that stands twice and a passage_id
    with two passages.
    """
    places: dict[str, str] = {}
    passages: dict[str, Placed] = {}
    for place, item in placed:
        for name in ("item_id", "passage_id", "question"):
            if not getattr(item, name).strip():
                raise DataError(f"{place}: {name} is empty.")
        if item.item_id in places:
            raise DataError(
                f"{place}: item {item.item_id!r} stands twice, first at {places[item.item_id]}."
            )
        places[item.item_id] = place
        first = passages.setdefault(item.passage_id, Placed(place, item))
        if item.passage != first.item.passage:
            raise DataError(
                f"{place}: passage {item.passage_id!r} has another text than at {first.place}."
            )
