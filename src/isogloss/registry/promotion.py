"""The rule for the alias `champion`: a version replaces it only if it is significantly better."""

import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from isogloss.formatting import interval_points, p_value, points
from isogloss.stats.paired import paired_gain
from isogloss.training.dev_predictions import CONTENT, DEV_PREDICTIONS

LEVEL = 0.05  # two-sided
ITEM_KEY = ["task", "language", "item_id", CONTENT]


class Promotion(NamedTuple):
    """Whether an adapter replaces the champion, and the reason as a clause."""

    promoted: bool
    reason: str


def compare_on_dev(champion: Path, challenger: Path) -> Promotion:
    """Compare two adapters, given by folders, on their source-language dev items.

    Items of both have one id and the same texts. The challenger is promoted if its accuracy on them
    is higher by `paired_gain`
    (Student's t clustered by passage; McNemar's exact test for few items) at the 5% level.
    """
    if not all((folder / DEV_PREDICTIONS).is_file() for folder in (champion, challenger)):
        return Promotion(False, "one of the two has no dev predictions, so they are not comparable")
    tables = [pd.read_parquet(folder / DEV_PREDICTIONS) for folder in (champion, challenger)]
    if not all(CONTENT in table for table in tables):
        return Promotion(
            False,
            "one of the two does not say which texts its dev items had (train it again), so they "
            "are not comparable",
        )
    before, after = (table.set_index(ITEM_KEY) for table in tables)
    shared = before.index.intersection(after.index)
    if shared.empty:
        return Promotion(False, "the two have no dev item in common, so they are not comparable")
    before, after = before.loc[shared], after.loc[shared]
    gain = paired_gain(before["correct"], after["correct"], after["passage_id"])
    better = gain.gain > 0 and gain.p < LEVEL
    finite = all(map(math.isfinite, gain.interval))
    interval = f" {interval_points(gain.interval)}" if finite else ""
    return Promotion(
        better,
        f"{'better' if better else 'not shown to be better'} on the {len(shared)} shared dev "
        f"items: accuracy {gain.before:.3f} for the champion and {gain.after:.3f} for this one, "
        f"{points(gain.gain)} points{interval}, p {p_value(gain.p)}",
    )
