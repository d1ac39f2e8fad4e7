"""Gains of each language: two conditions paired item by item, and refused if they cannot be."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from isogloss.contrasts import PairedGain, holm, paired_gain
from isogloss.decomposition import GainParts, split_gain
from isogloss.errors import ComparisonError
from isogloss.languages import Group, group, language

COLUMNS = (
    *("task", "format", "language", "item_id", "passage_id", "answer"),
    *("correct", "valid", "choice_logprobs", "gold_logprob"),
)
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class LanguageGain:
    """One target language: accuracies, the paired gain and its 95% interval, as fractions.

    `base_valid` and `tuned_valid` are shares of valid answers, None where validity was not
    measured; `log_odds_gain` is in logits, `gold_logprob_gain` in nats. `free_gain` is that of
    answers as given, invalid ones being wrong, and the sum of `format_part` and
    `comprehension_part` (see `decomposition`); None where forced and free answers are not known.
    """

    code: str
    name: str
    family: str
    branch: str
    script: str
    group: Group
    n: int
    passages: int
    base: float
    tuned: float
    gain: float
    se: float
    low: float
    high: float
    mcnemar_p: float
    holm_p: float
    base_valid: float | None
    tuned_valid: float | None
    log_odds_gain: float
    gold_logprob_gain: float
    free_gain: float | None
    free_gain_se: float | None
    format_part: float | None
    format_part_se: float | None
    comprehension_part: float | None
    comprehension_part_se: float | None


def language_gains(
    base: pd.DataFrame, tuned: pd.DataFrame, source: str, branch: str | None = None
) -> list[LanguageGain]:
    """Gain of each language in two tables of predictions on the same items.

    Each table has one row for each (language, item_id), with the columns of predictions.parquet.
    Ordered by group (source, variety, related, control), largest gain first; Holm's adjustment is
    over all languages. ComparisonError if the tables do not hold the same items of one task and
    format.
    """
    base, tuned = _aligned(base, tuned)
    codes = list(dict.fromkeys(base["language"]))
    pairs = [(base[base["language"] == code], tuned[tuned["language"] == code]) for code in codes]
    gains = [
        paired_gain(before["correct"], after["correct"], before["passage_id"])
        for before, after in pairs
    ]
    adjusted = holm([gain.mcnemar_p for gain in gains])
    rows = [
        _language_gain(code, group(code, source, branch), before, after, gain, float(p))
        for code, (before, after), gain, p in zip(codes, pairs, gains, adjusted, strict=True)
    ]
    return sorted(rows, key=lambda row: (GROUPS.index(row.group), -row.gain, row.code))


def _aligned(base: pd.DataFrame, tuned: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables in one order of (language, item_id); ComparisonError if they cannot be paired."""
    keyed = []
    for name, rows in (("base", base), ("tuned", tuned)):
        if missing := [column for column in COLUMNS if column not in rows.columns]:
            raise ComparisonError(
                f"the {name} predictions lack the columns {_some(missing)}; expected a table with "
                f"the columns of predictions.parquet."
            )
        if rows.empty:
            raise ComparisonError(f"the {name} predictions are empty.")
        key = rows.set_index(["language", "item_id"], drop=False).sort_index()
        if not key.index.is_unique:
            repeated = key.index[key.index.duplicated()].unique()
            raise ComparisonError(
                f"the {name} predictions have more than one row for {_some(map(_item, repeated))}."
            )
        if not (finite := np.isfinite(key["gold_logprob"].to_numpy(dtype=float))).all():
            raise ComparisonError(
                f"the {name} predictions have a gold_logprob that is not finite for "
                f"{_some(map(_item, key.index[~finite]))}."
            )
        keyed.append(key)
    before, after = keyed
    for column in ("task", "format"):
        found = [sorted(rows[column].unique()) for rows in keyed]
        if found[0] != found[1] or len(found[0]) > 1:
            raise ComparisonError(
                f"both runs must have one and the same {column}, but base has {_some(found[0])} "
                f"and tuned has {_some(found[1])}."
            )
    for codes, only, other in (
        (set(before["language"]) - set(after["language"]), "base", "tuned"),
        (set(after["language"]) - set(before["language"]), "tuned", "base"),
    ):
        if codes:
            raise ComparisonError(
                f"the runs cover different languages: {_some(sorted(codes))} in {only}, "
                f"not in {other}."
            )
    for index, only, other in (
        (before.index.difference(after.index), "base", "tuned"),
        (after.index.difference(before.index), "tuned", "base"),
    ):
        if len(index):
            raise ComparisonError(
                f"the runs cover different items: {_some(map(_item, index))} in {only}, "
                f"not in {other}."
            )
    for column in ("answer", "passage_id"):
        differ = before[column].to_numpy() != after[column].to_numpy()
        if differ.any():
            raise ComparisonError(
                f"the runs disagree on {column} of {_some(map(_item, before.index[differ]))}, so "
                f"they were not made from the same data."
            )
    return before.reset_index(drop=True), after.reset_index(drop=True)


def _item(key: tuple[str, str]) -> str:
    return f"{key[0]} {key[1]}"


def _some(names: Iterable[str]) -> str:
    listed = [str(name) for name in names]
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


def _language_gain(
    code: str, where: Group, before: pd.DataFrame, after: pd.DataFrame, gain: PairedGain, p: float
) -> LanguageGain:
    known = language(code)
    parts = _parts(before, after)
    return LanguageGain(
        code=code,
        name=known.name,
        family=known.family,
        branch=known.branch,
        script=known.script,
        group=where,
        n=len(before),
        passages=before["passage_id"].nunique(),
        base=gain.base,
        tuned=gain.tuned,
        gain=gain.gain,
        se=gain.se,
        low=gain.interval.low,
        high=gain.interval.high,
        mcnemar_p=gain.mcnemar_p,
        holm_p=p,
        base_valid=_share_valid(before),
        tuned_valid=_share_valid(after),
        log_odds_gain=_log_odds(after["correct"]) - _log_odds(before["correct"]),
        gold_logprob_gain=float((after["gold_logprob"] - before["gold_logprob"]).mean()),
        free_gain=parts and parts.total,
        free_gain_se=parts and parts.total_se,
        format_part=parts and parts.format,
        format_part_se=parts and parts.format_se,
        comprehension_part=parts and parts.comprehension,
        comprehension_part_se=parts and parts.comprehension_se,
    )


def _parts(before: pd.DataFrame, after: pd.DataFrame) -> GainParts | None:
    """Format and comprehension part, where both tables say what was forced and what was given."""
    if not {"forced", "greedy"} <= set(before.columns) & set(after.columns):
        return None
    right = [
        (rows["greedy"] == rows["answer"], rows["forced"] == rows["answer"])
        for rows in (before, after)
    ]
    return split_gain(*right[0], *right[1], before["passage_id"])


def _share_valid(rows: pd.DataFrame) -> float | None:
    known = rows["valid"].dropna()
    return float(known.astype(float).mean()) if len(known) else None


def _log_odds(correct_I: "pd.Series[bool]") -> float:
    # (k + 0.5) / (n + 1) keeps the log-odds of none or all correct finite (Haldane, Anscombe).
    share = (float(correct_I.sum()) + 0.5) / (len(correct_I) + 1)
    return math.log(share / (1 - share))
