"""Answers that are one position of the options, whatever the question."""

import numpy as np
import pytest

from isogloss.predictions.positions import one_position, other_ways_to_ask
from isogloss.types import Format

SPREAD = np.arange(96) % 4


@pytest.mark.parametrize(
    ("chosen", "answer", "found"),
    [
        (np.zeros(96), SPREAD, (0, 96, 96)),
        (np.zeros(96), SPREAD % 3 + 1, (0, 96, 96)),  # never right
        (np.full(20, 2), SPREAD[:20], (2, 20, 20)),
        (np.full(19, 2), SPREAD[:19], None),  # too few answers
        (np.zeros(96), np.zeros(96), None),  # right answers are there too
        (np.arange(100) >= 91, np.arange(100) % 2, (0, 91, 100)),
        (np.arange(100) >= 90, np.arange(100) % 2, None),
        (SPREAD, SPREAD, None),
        (np.where(np.arange(96) < 48, -1, 1), SPREAD, (1, 48, 48)),  # half are no option
        (np.full(96, -1), SPREAD, None),
    ],
)
def test_more_than_nine_tenths_of_twenty_answers_are_one_position(chosen, answer, found):
    assert one_position(chosen, answer) == found


def test_the_position_has_the_letter_that_is_shown():
    assert str(one_position(np.ones(30), SPREAD[:30])) == "option B in 30 of 30 items"


def test_other_ways_to_ask_are_parameters_that_are_not_in_use():
    assert other_ways_to_ask(Format.LETTER) == "shuffle_options=true or format=cloze"
    assert other_ways_to_ask(Format.GENERATE, shuffled=True) == "format=cloze"
    assert "format=letter" in other_ways_to_ask(Format.CLOZE)
