"""Whether answers are one position of the options, whatever the question.

Shapes are suffixes: N items, P positions.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from isogloss.types import Format

FEWEST_ITEMS = 20
MOST_SHARE = 0.9
EXCESS = 0.1  # of all items, beyond those whose right answer is at that position


class OnePosition(NamedTuple):
    """The position, from 0, that `chosen` of the answers to `items` items have."""

    position: int
    chosen: int
    items: int

    def __str__(self) -> str:
        """As in messages and reports: `option A in 96 of 96 items`."""
        letter = chr(ord("A") + self.position)
        return f"option {letter} in {self.chosen} of {self.items} items"


def one_position(chosen_N: npt.ArrayLike, answer_N: npt.ArrayLike) -> OnePosition | None:
    """The position that nearly all answers have and the right answers have not; None if none does.

    More than 90% of at least 20 answers, and a tenth of the items more than are right there.
    Answers that are no option, -1, are left out.
    """
    chosen_N, answer_N = np.asarray(chosen_N, dtype=int), np.asarray(answer_N, dtype=int)
    chosen_N, answer_N = chosen_N[chosen_N >= 0], answer_N[chosen_N >= 0]
    items = len(chosen_N)
    if items < FEWEST_ITEMS:
        return None
    count_P = np.bincount(chosen_N)
    position = int(count_P.argmax())
    count, right = int(count_P[position]), int((answer_N == position).sum())
    if count <= MOST_SHARE * items or count - right <= EXCESS * items:
        return None
    return OnePosition(position, count, items)


def other_ways_to_ask(task_format: str, *, shuffled: bool = False) -> str:
    """Parameters with which answers may depend on the question; `shuffled` options already are."""
    if task_format == Format.CLOZE:
        return "normalisation=unconditional or format=letter"
    return "format=cloze" if shuffled else "shuffle_options=true or format=cloze"
