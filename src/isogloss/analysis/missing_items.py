"""Items that not every run has an answer to, left out of all runs."""

from collections.abc import Mapping

import pandas as pd

from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import RunKey

ITEM = ["language", "item_id"]


def complete_items(
    tables: Mapping[RunKey, pd.DataFrame],
) -> tuple[dict[RunKey, pd.DataFrame], tuple[Omission, ...]]:
    """The tables without the items that some run lacks in a language, and how many these are.

    An item is left out of its language in every run, so gains remain paired. A language that a run
    lacks altogether is left alone: `align` leaves it out. There is one omission for each run that
    lacks items, with their number by language, and one with the number of all items left out.
    """
    shared = set.intersection(*(set(table["language"]) for table in tables.values()))
    items = {
        run: pd.MultiIndex.from_frame(table[table["language"].isin(shared)][ITEM])
        for run, table in tables.items()
    }
    first, *others = items.values()
    union, common = first, first
    for index in others:
        union, common = union.union(index, sort=False), common.intersection(index, sort=False)
    lost = union.difference(common)
    if not len(lost):
        return dict(tables), ()
    complete = {
        run: table[~pd.MultiIndex.from_frame(table[ITEM]).isin(lost)]
        for run, table in tables.items()
    }
    of_all = union.get_level_values("language").value_counts()
    left_out = Omission(
        OmissionReason.MISSING_ITEMS,
        counts=_counts(lost),
        totals=tuple((code, int(of_all[code])) for code, _ in _counts(lost)),
    )
    lacking = ((run, lost.difference(index)) for run, index in items.items())
    by_run = tuple(
        Omission(OmissionReason.MISSING_ITEMS, run=run, counts=_counts(missing))
        for run, missing in lacking
        if len(missing)
    )
    return complete, (left_out, *by_run)


def _counts(items: pd.MultiIndex) -> tuple[tuple[str, int], ...]:
    """The number of items in each language, by code."""
    counts = items.get_level_values("language").value_counts()
    return tuple((str(code), int(counts[code])) for code in sorted(counts.index))
