"""Runs that give the answer at one position, whatever the question."""

from collections.abc import Mapping

import pandas as pd

from isogloss.analysis.score_matrix import RunKey
from isogloss.predictions.positions import OnePosition, one_position
from isogloss.types import Format


def answer_positions(tables: Mapping[RunKey, pd.DataFrame]) -> dict[RunKey, OnePosition]:
    """The position of nearly all answers of a run over all languages; of runs that have one."""
    found = {}
    for run, table in tables.items():
        column = "greedy" if (table["format"] == Format.GENERATE).all() else "forced"
        if not all(name in table and table[name].notna().all() for name in (column, "answer")):
            continue
        if position := one_position(table[column], table["answer"]):
            found[run] = position
    return found
