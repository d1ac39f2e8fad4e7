"""Predictions of one language that an interrupted evaluation left, checked before they are used."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow

from isogloss.predictions.table import COLUMNS, OF_SCORES
from isogloss.tasks import Item

logger = logging.getLogger(__name__)

ASKED = ("item_id", "passage_id", "language", "answer")


def kept_predictions(path: Path, items: Sequence[Item]) -> pd.DataFrame | None:
    """The predictions about these items in a file; None if there is none that can be used.

    A file that cannot be read, or that is about other items, is deleted, and a warning says so.
    """
    if not path.is_file():
        return None
    table: pd.DataFrame | None = None
    try:
        table = pd.read_parquet(path)
        problem = _problem(table, items)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a fault of the disk, not of the content
        problem = "it is not a whole Parquet file"
    if problem is None:
        return table
    logger.warning(f"{path} is not used but computed again: {problem}")
    path.unlink(missing_ok=True)
    return None


def _problem(table: pd.DataFrame, items: Sequence[Item]) -> str | None:
    """Why a table is not one of predictions about these items, as a clause; None if it is."""
    if missing := set(COLUMNS) - set(OF_SCORES) - set(table.columns):
        return f"it has no column {min(missing)!r}"
    if len(table) != len(items):
        return f"it has {len(table)} rows, and {len(items)} items are asked about"
    asked = [tuple(getattr(item, name) for name in ASKED) for item in items]
    answered = list(table[list(ASKED)].itertuples(index=False, name=None))
    return None if answered == asked else "it is about other items"
