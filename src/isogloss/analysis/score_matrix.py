"""Scores: the correctness of many runs on the same items, aligned once and kept as arrays.

A run is one condition of one model, with one adapter where there is one. Shapes are suffixes: K
runs, N rows (an item in a language), L languages, P passages.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from isogloss.errors import ComparisonError
from isogloss.languages import language
from isogloss.types import Condition, FloatArray

KEY = ("task", "format", "language", "item_id", "passage_id", "correct")
OPTIONAL = ("answer", "valid", "greedy", "forced", "gold_logprob", "tokens", "words")
COLUMNS = (*KEY, *OPTIONAL, "choice_logprobs")


class RunKey(NamedTuple):
    """What a table of predictions is of; `source` is empty without an adapter, `seed` if unknown.

    `seed` tells replicates apart: the seed of an adapter's training, or of sampling.
    """

    model: str
    condition: Condition
    source: str = ""
    seed: str = ""

    def __str__(self) -> str:
        """As it is named in messages and reports."""
        tuned = f" on {self.source}" if self.source else ""
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{self.model}, {self.condition}{tuned}{seed}"


@dataclass(frozen=True)
class Scores:
    """Scores of K runs on N rows, ordered by language and item.

    `row_language` and `row_passage` are indices into `languages` and into passages, which languages
    share. Arrays of what some run did not record are None. `valid` is whether an answer was one of
    the choices, `free` and `forced` whether the answer as given and the likeliest choice were
    right. `fertility`, [L], is tokens per word, or per item (`per_word` false) where a language has
    no words between spaces, on average over models.
    """

    task: str
    format: str
    runs: tuple[RunKey, ...]
    languages: tuple[str, ...]
    row_language: npt.NDArray[np.intp]
    row_passage: npt.NDArray[np.intp]
    correct: FloatArray
    valid: FloatArray | None
    free: FloatArray | None
    forced: FloatArray | None
    gold_logprob: FloatArray | None
    fertility: FloatArray | None
    per_word: bool
    chance: float | None

    @cached_property
    def slices(self) -> list[slice]:
        """Where each language's rows are."""
        ends = np.searchsorted(self.row_language, np.arange(len(self.languages) + 1))
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    @cached_property
    def counts(self) -> FloatArray:
        """Number of items of each passage in each language."""
        return self.by_passage(np.ones(len(self.row_language)))

    @cached_property
    def accuracy(self) -> FloatArray:
        """Accuracy of each run in each language, [K, L]."""
        return np.stack([self.correct[:, rows].mean(axis=1) for rows in self.slices], axis=1)

    def by_passage(self, value_N: npt.ArrayLike) -> FloatArray:
        """Sums over items, [P, L]."""
        n_passages, n_languages = int(self.row_passage.max()) + 1, len(self.languages)
        index_N = self.row_passage * n_languages + self.row_language
        sums: FloatArray = np.bincount(
            index_N, np.asarray(value_N, dtype=np.float64), n_passages * n_languages
        ).astype(np.float64)
        return sums.reshape(n_passages, n_languages)


def align(tables: Mapping[RunKey, pd.DataFrame]) -> tuple[Scores, tuple[str, ...]]:
    """Put tables of predictions on common rows; also a line for each run and language left out.

    Each table has one row for each (language, item_id), with the columns of predictions.parquet
    that `KEY` names and any of the others. Languages that some run lacks are left out and named.
    ComparisonError if tables are not of one task and format, or not of the same items, answers and
    passages in a language that they share; it names the runs, the languages and the first items.
    """
    if not tables:
        raise ComparisonError("there are no predictions to compare.")
    keyed = {run: _keyed(table, str(run)) for run, table in tables.items()}
    for column in ("task", "format"):
        found = {run: _distinct(table[column]) for run, table in keyed.items()}
        if len(set(found.values())) > 1 or any(len(values) > 1 for values in found.values()):
            raise ComparisonError(
                f"all runs must have one and the same {column}, but {_whose(found)}."
            )
    present = {run: set(table["language"].unique()) for run, table in keyed.items()}
    languages = tuple(sorted(set.intersection(*present.values())))
    everywhere = set().union(*present.values())
    missing = tuple(
        f"{run}: {', '.join(sorted(everywhere - codes))}"
        for run, codes in present.items()
        if everywhere - codes
    )
    if not languages:
        raise ComparisonError(
            f"no language is in all of the runs; missing are {'; '.join(missing)}."
        )
    first_cell, first = next(iter(keyed.items()))
    first = first[first["language"].isin(languages)]
    rows: list[pd.DataFrame] = []
    for run, table in keyed.items():
        here = table[table["language"].isin(languages)]
        if not here.index.equals(first.index):
            _refuse_items(first.index, here.index, str(first_cell), str(run))
        for column in ("answer", "passage_id"):
            if column in here and column in first:
                differ = here[column].to_numpy() != first[column].to_numpy()
                if differ.any():
                    raise ComparisonError(
                        f"{first_cell} and {run} disagree on {column} of "
                        f"{first_few(map(_item, here.index[differ]))}, so they were not made "
                        f"from the same data."
                    )
        rows.append(here)

    def stacked(column: str) -> FloatArray | None:
        if any(column not in table or table[column].isna().any() for table in rows):
            return None
        return np.stack([table[column].to_numpy(np.float64) for table in rows])

    def right(column: str) -> FloatArray | None:
        if any(not {column, "answer"} <= set(table.columns) for table in rows):
            return None
        return np.stack([(table[column] == table["answer"]).to_numpy(np.float64) for table in rows])

    correct = stacked("correct")
    assert correct is not None
    fertility, per_word = _fertility(rows, languages)
    scores = Scores(
        task=str(first["task"].iloc[0]),
        format=str(first["format"].iloc[0]),
        runs=tuple(keyed),
        languages=languages,
        row_language=np.searchsorted(languages, first["language"].to_numpy(dtype=str)),
        row_passage=pd.factorize(first["passage_id"], sort=True)[0],
        correct=correct,
        valid=stacked("valid"),
        free=right("greedy"),
        forced=right("forced"),
        gold_logprob=stacked("gold_logprob"),
        fertility=fertility,
        per_word=per_word,
        chance=_chance(rows),
    )
    return scores, missing


def first_few(names: Iterable[object]) -> str:
    """The first three of several names, and how many more there are."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


def _keyed(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table in order of (language, item_id); ComparisonError if it cannot be used."""
    if missing := [column for column in KEY if column not in table.columns]:
        raise ComparisonError(
            f"the predictions of {name} lack the columns {first_few(missing)}; expected a table "
            f"with the columns of predictions.parquet."
        )
    if table.empty:
        raise ComparisonError(f"the predictions of {name} are empty.")
    keyed = table.set_index(["language", "item_id"], drop=False)
    if not keyed.index.is_monotonic_increasing:
        keyed = keyed.sort_index()
    if not keyed.index.is_unique:
        repeated = keyed.index[keyed.index.duplicated()].unique()
        raise ComparisonError(
            f"the predictions of {name} have more than one row for "
            f"{first_few(map(_item, repeated))}."
        )
    if "gold_logprob" in keyed:
        known = keyed["gold_logprob"].to_numpy(dtype=float)
        if np.isinf(known).any() or 0 < np.isnan(known).sum() < len(known):
            bad = keyed.index[~np.isfinite(known)]
            raise ComparisonError(
                f"the predictions of {name} have a gold_logprob that is not finite for "
                f"{first_few(map(_item, bad))}."
            )
    for code in keyed["language"].unique():
        language(str(code))
    return keyed


def _distinct(column: "pd.Series[str]") -> tuple[str, ...]:
    return tuple(sorted(column.astype(str).unique()))


def _whose(found: Mapping[RunKey, tuple[str, ...]]) -> str:
    by_value: dict[tuple[str, ...], list[RunKey]] = {}
    for run, values in found.items():
        by_value.setdefault(values, []).append(run)
    return "; ".join(
        f"{' and '.join(values)} in {first_few(runs)}" for values, runs in by_value.items()
    )


def _refuse_items(here: pd.Index, there: pd.Index, left: str, right: str) -> None:
    for only, whose, others in (
        (here.difference(there), left, right),
        (there.difference(here), right, left),
    ):
        if len(only):
            raise ComparisonError(
                f"the runs cover different items: {first_few(map(_item, only))} in {whose}, not in "
                f"{others}."
            )


def _item(key: tuple[str, str]) -> str:
    return f"{key[0]} {key[1]}"


def _fertility(
    rows: Sequence[pd.DataFrame], languages: Sequence[str]
) -> tuple[FloatArray | None, bool]:
    if any(not {"tokens", "words"} <= set(table.columns) for table in rows):
        return None, False
    per_word = all(language(code).spaced for code in languages)
    found = []
    for table in rows:
        sums = (
            table[["tokens", "words"]].groupby(table["language"].to_numpy()).agg(["sum", "count"])
        )
        below = sums["words"]["sum"] if per_word else sums["tokens"]["count"]
        found.append((sums["tokens"]["sum"] / below).to_numpy(dtype=float))
    return np.mean(found, axis=0), per_word


def _chance(rows: Sequence[pd.DataFrame]) -> float | None:
    for table in rows:
        if "choice_logprobs" in table:
            n_choices = table["choice_logprobs"].map(len).to_numpy()
            return float((1 / n_choices).mean()) if n_choices.min() > 0 else None
    return None
