"""The answers to single items, as data for the page that shows them.

Shapes are suffixes: N items of all languages, C options of an item.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pandas as pd

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.score_matrix import RunKey
from isogloss.languages import language, source_name
from isogloss.predictions.ranking import normalised_scores
from isogloss.tasks import Item
from isogloss.types import FloatArray, Format, LanguageCode, Normalisation

MOST_ROWS = 100_000  # an item answered by one model and adapter, before and after
PER_MILLE = 1000
ITEM = ["language", "item_id"]


@dataclass(frozen=True)
class ItemTexts:
    """The items of each language as the model saw them, by id; `missing` says why others are not.

    Runs keep ids and log-likelihoods alone, so texts are read where the report is made.
    """

    by_language: Mapping[LanguageCode, Mapping[str, Item]]
    missing: str = ""


class LanguageItems(TypedDict):
    """A language: its items as [id, place of the passage or -1, question, options, answer]."""

    code: str
    name: str
    passages: list[str]
    items: list[tuple[str, int, str, list[str], int]]


class RunAnswers(TypedDict):
    """The answers of one run to all items in order; None where the run did not record them.

    `choices` are places of options, -1 for an answer that is none. `probabilities` are those of an
    item's options, in thousandths. `shares` are those of the normalised scores that decide; None
    where the probabilities decide themselves, or a text does.
    """

    label: str
    adapter: str
    correct: str
    choices: list[int] | None
    probabilities: list[list[int]] | None
    shares: list[list[int]] | None


class Pair(TypedDict):
    """A model with one adapter: the runs before and after, and all runs to show, by number."""

    model: str
    adapter: str
    before: int
    after: int
    shown: list[int]


class ItemData(TypedDict):
    """Everything that the page of items shows; `total` is the number of items of all languages.

    `normalisation` is that of the scores that decide; empty where it is unknown.
    """

    missing: str
    normalisation: str
    total: int
    languages: list[LanguageItems]
    runs: list[RunAnswers]
    pairs: list[Pair]


def item_data(
    comparison: Comparison,
    tables: Mapping[RunKey, pd.DataFrame],
    texts: ItemTexts,
    normalisation: Normalisation | None = None,
) -> ItemData:
    """The items that all runs of the comparison answered, and each run's answers to them.

    `normalisation` is that of the scores of options, None if unknown. With more than MOST_ROWS
    rows, only the first items of each language.
    """
    models = {model.label for model in comparison.models}
    keys = [key for key in tables if key.model in models]
    pairs = list(_pairs(comparison, keys))
    keyed = [tables[key].set_index(ITEM, drop=False) for key in keys]
    index_by_language, total = _index(comparison, keyed, len(pairs))
    index = pd.MultiIndex.from_tuples(
        [(code, item) for code, items in index_by_language.items() for item in items], names=ITEM
    )
    tables_N = [table.loc[index] for table in keyed]
    options_N = [
        item.options if (item := texts.by_language.get(code, {}).get(item_id)) else ()
        for code, item_id in index
    ]
    return ItemData(
        missing=texts.missing,
        normalisation=normalisation or "",
        total=total,
        languages=[
            _language(code, items, texts.by_language.get(code, {}), tables_N)
            for code, items in index_by_language.items()
        ],
        runs=[
            _answers(key, table_N, comparison.format, options_N, normalisation)
            for key, table_N in zip(keys, tables_N, strict=True)
        ],
        pairs=pairs,
    )


def _index(
    comparison: Comparison, keyed: Sequence[pd.DataFrame], n_pairs: int
) -> tuple[dict[LanguageCode, list[str]], int]:
    """The ids of the items to show by language, languages by name; and the number of all items."""
    common = keyed[0].index
    for table in keyed[1:]:
        common = common[common.isin(table.index)]
    by_code: dict[LanguageCode, list[str]] = {}
    for code, item in common:
        by_code.setdefault(code, []).append(item)
    items = {
        row.code: by_code[row.code]
        for row in sorted(comparison.languages, key=lambda row: row.name)
    }
    total = sum(map(len, items.values()))
    most = max(1, MOST_ROWS // (n_pairs * len(items)))
    if total * n_pairs <= MOST_ROWS:
        return items, total
    return {code: ids[:most] for code, ids in items.items()}, total


def _pairs(comparison: Comparison, keys: Sequence[RunKey]) -> Iterator[Pair]:
    """Each run of the compared condition, and the run of its model that it is compared with."""
    for model in comparison.models:
        own = [place for place, key in enumerate(keys) if key.model == model.label]
        for after in own:
            run = keys[after]
            if run.condition != comparison.condition:
                continue
            like = [
                place
                for place in own
                if keys[place].source in ("", run.source) and keys[place].seed in ("", run.seed)
            ]
            before = [place for place in like if keys[place].condition == comparison.against]
            # A base model that was sampled several times has seeds of its own.
            before += [place for place in own if keys[place].condition == comparison.against]
            if not before:
                continue
            others = [place for place in like if place not in (before[0], after)]
            yield Pair(
                model=model.label,
                adapter=_adapter(run),
                before=before[0],
                after=after,
                shown=[before[0], *others, after],
            )


def _adapter(run: RunKey) -> str:
    source = source_name(run.source) if run.source else ""
    return ", ".join(filter(None, (source, f"seed {run.seed}" if run.seed else "")))


def _language(
    code: LanguageCode,
    ids: Sequence[str],
    texts: Mapping[str, Item],
    tables_N: Sequence[pd.DataFrame],
) -> LanguageItems:
    passages: dict[str, int] = {}
    rows: list[tuple[str, int, str, list[str], int]] = []
    answers = {}
    if "answer" in tables_N[0]:
        own = tables_N[0].loc[[code]]
        answers = dict(zip(own["item_id"], own["answer"], strict=True))
    for item_id in ids:
        item = texts.get(item_id)
        if item is None:
            answer = answers.get(item_id)
            rows.append((str(item_id), -1, "", [], -1 if pd.isna(answer) else int(answer)))
            continue
        place = passages.setdefault(item.passage, len(passages)) if item.passage else -1
        rows.append((str(item_id), place, item.question, list(item.options), item.answer))
    return LanguageItems(code=code, name=language(code).name, passages=list(passages), items=rows)


def _answers(
    run: RunKey,
    table_N: pd.DataFrame,
    task_format: str,
    options_N: Sequence[Sequence[str]],
    normalisation: Normalisation | None,
) -> RunAnswers:
    column = "greedy" if task_format == Format.GENERATE else "forced"
    choices = None
    if column in table_N and table_N[column].notna().all():
        choices = table_N[column].astype(int).tolist()
    return RunAnswers(
        label=str(run.condition),
        adapter=_adapter(run),
        correct="".join("1" if right else "0" for right in table_N["correct"].astype(bool)),
        choices=choices,
        probabilities=_probabilities(table_N),
        shares=_shares(table_N, options_N, normalisation) if task_format == Format.CLOZE else None,
    )


def _probabilities(table_N: pd.DataFrame) -> list[list[int]] | None:
    """Log-likelihoods of options as shares of their sum, as `gold_logprob` takes them."""
    if "choice_logprobs" not in table_N:
        return None
    shares: list[list[int]] = []
    for values in table_N["choice_logprobs"]:
        logprob_C = np.asarray([] if values is None else values, dtype=float)
        shares.append(_per_mille(logprob_C))
    return shares if any(shares) else None


def _shares(
    table_N: pd.DataFrame,
    options_N: Sequence[Sequence[str]],
    normalisation: Normalisation | None,
) -> list[list[int]] | None:
    """The softmax of the normalised scores of options; of items that have all they need."""
    if normalisation in (None, Normalisation.NONE) or "choice_logprobs" not in table_N:
        return None
    unconditional_N: Sequence[Sequence[float] | None] = [None] * len(table_N)
    subtracted = normalisation == Normalisation.UNCONDITIONAL
    if subtracted and "unconditional_logprobs" in table_N:
        unconditional_N = list(table_N["unconditional_logprobs"])
    shares: list[list[int]] = []
    for values, alone, options in zip(
        table_N["choice_logprobs"], unconditional_N, options_N, strict=True
    ):
        logprob_C = np.asarray([] if values is None else values, dtype=float)
        needed = alone if subtracted else options
        if needed is None or len(needed) != len(logprob_C):
            shares.append([])
            continue
        scores_C = normalised_scores(logprob_C, options=options, unconditional_C=alone)
        shares.append(_per_mille(scores_C))
    return shares if any(shares) else None


def _per_mille(score_C: FloatArray) -> list[int]:
    """The softmax of scores, in thousandths; empty if there are none, or not all are finite."""
    if not len(score_C) or not np.isfinite(score_C).all():
        return []
    share_C = np.exp(score_C - np.logaddexp.reduce(score_C))
    return [round(PER_MILLE * share) for share in share_C.tolist()]
