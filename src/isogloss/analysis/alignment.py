"""Alignment of predictions: validate each table, check that tables match, stack them as arrays."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import RunKey, Scores, first_few
from isogloss.errors import ComparisonError
from isogloss.languages import language
from isogloss.predictions.table import DOCUMENT_DIGEST, PROMPT_DIGEST, REQUIRED_COLUMNS
from isogloss.types import FloatArray, Reasoning

Tables = Mapping[RunKey, pd.DataFrame]


def align(tables: Tables) -> tuple[Scores, tuple[Omission, ...]]:
    """Put tables of predictions on common rows.

    Each table has one row per (language, item_id), with the `REQUIRED_COLUMNS` of
    predictions.parquet and any of the optional ones. Languages that a run lacks are left out of all
    runs; each run that lacks some is returned as an omission.

    Raises ComparisonError if tables have different tasks or formats, or different items, answers or
    passages in a language that they share. The message names runs, languages and the first items.
    """
    if not tables:
        raise ComparisonError("there are no predictions to compare.")
    keyed = {run: _validated(table, run) for run, table in tables.items()}
    _check_same_setting(keyed)
    languages, omissions = _common_languages(keyed)
    kept = {run: table[table["language"].isin(languages)] for run, table in keyed.items()}
    _check_same_items(kept)
    return _stacked(kept, languages), omissions


def _validated(table: pd.DataFrame, run: RunKey) -> pd.DataFrame:
    """The table indexed by and in order of (language, item_id); ComparisonError if unusable."""
    if missing := [column for column in REQUIRED_COLUMNS if column not in table.columns]:
        raise ComparisonError(
            f"the predictions of {run} lack the columns {first_few(missing)}; expected a table "
            f"with the columns of predictions.parquet."
        )
    if table.empty:
        raise ComparisonError(f"the predictions of {run} are empty.")
    keyed = table.set_index(["language", "item_id"], drop=False)
    if not keyed.index.is_monotonic_increasing:
        keyed = keyed.sort_index()
    if not keyed.index.is_unique:
        repeated = keyed.index[keyed.index.duplicated()].unique()
        raise ComparisonError(
            f"the predictions of {run} have more than one row for "
            f"{first_few(map(_item, repeated))}."
        )
    if (missing_N := keyed["correct"].isna()).any():
        raise ComparisonError(
            f"the predictions of {run} have no value of `correct` for "
            f"{first_few(map(_item, keyed.index[missing_N]))}."
        )
    if "gold_logprob" in keyed:
        logprob_N = keyed["gold_logprob"].to_numpy(dtype=float)
        # NaN in every row means that the run did not record it.
        if np.isinf(logprob_N).any() or 0 < np.isnan(logprob_N).sum() < len(logprob_N):
            bad = keyed.index[~np.isfinite(logprob_N)]
            raise ComparisonError(
                f"the predictions of {run} have a gold_logprob that is not finite for "
                f"{first_few(map(_item, bad))}."
            )
    for code in keyed["language"].unique():
        language(str(code))  # ConfigError for an unknown code
    return keyed


def _check_same_setting(keyed: Tables) -> None:
    """ComparisonError unless all tables have one task and one format."""
    for column in ("task", "format"):
        runs_of: dict[tuple[str, ...], list[RunKey]] = {}
        for run, table in keyed.items():
            values = tuple(sorted(table[column].astype(str).unique()))
            runs_of.setdefault(values, []).append(run)
        if len(runs_of) > 1 or any(len(values) > 1 for values in runs_of):
            listed = "; ".join(
                f"{' and '.join(values)} in {first_few(runs)}" for values, runs in runs_of.items()
            )
            raise ComparisonError(f"all runs must have the same {column}, but {listed}.")


def _common_languages(keyed: Tables) -> tuple[tuple[str, ...], tuple[Omission, ...]]:
    """The languages that all runs have, and the runs that lack others."""
    by_run = {run: set(map(str, table["language"].unique())) for run, table in keyed.items()}
    common = set.intersection(*by_run.values())
    union = set().union(*by_run.values())
    omissions = tuple(
        Omission(
            OmissionReason.MISSING_LANGUAGES, run=run, languages=tuple(sorted(union - languages))
        )
        for run, languages in by_run.items()
        if union - languages
    )
    if not common:
        missing = "; ".join(
            f"{lacking.run}: {', '.join(lacking.languages)}" for lacking in omissions
        )
        raise ComparisonError(f"no language is in all of the runs; missing are {missing}.")
    return tuple(sorted(common)), omissions


def _check_same_items(kept: Tables) -> None:
    """ComparisonError unless all tables have the same items, answers and passages."""
    (first_run, first), *others = kept.items()
    for run, table in others:
        if not table.index.equals(first.index):
            _raise_different_items(first_run, first.index, run, table.index)
    for column in ("answer", "passage_id", DOCUMENT_DIGEST):
        _check_equal(
            kept, column, "{0} and {1} disagree on {2}, so they were not made from the same data."
        )
    by_asked: dict[tuple[str, Reasoning], dict[RunKey, pd.DataFrame]] = {}
    for run, table in kept.items():
        by_asked.setdefault((run.model, run.condition.reasoning), {})[run] = table
    for members in by_asked.values():
        _check_equal(
            members,
            PROMPT_DIGEST,
            "{0} and {1} disagree on {2}: a chat template, examples, instructions or limits of "
            "generation differ.",
        )


def _check_equal(tables: Tables, column: str, message: str) -> None:
    """Raise ComparisonError unless the tables that have a column agree in it."""
    having = [(run, table) for run, table in tables.items() if column in table]
    for run, table in having[1:]:
        first_run, first = having[0]
        differs_N = table[column].to_numpy() != first[column].to_numpy()
        if differs_N.any():
            items = first_few(map(_item, table.index[differs_N]))
            raise ComparisonError(message.format(first_run, run, f"{column} of {items}"))


def _raise_different_items(
    left: RunKey, left_items: pd.Index, right: RunKey, right_items: pd.Index
) -> None:
    for only, run, other in (
        (left_items.difference(right_items), left, right),
        (right_items.difference(left_items), right, left),
    ):
        if len(only):
            raise ComparisonError(
                f"the runs cover different items: {first_few(map(_item, only))} in {run}, not in "
                f"{other}; set missing=drop to leave out of all runs what some of them lack."
            )


def _item(key: tuple[str, str]) -> str:
    return f"{key[0]} {key[1]}"


def _stacked(kept: Tables, languages: tuple[str, ...]) -> Scores:
    """Scores of tables that have the same rows in the same order."""
    tables = list(kept.values())
    first = tables[0]
    fertility, per_word = _fertility(tables, languages)
    return Scores(
        task=str(first["task"].iloc[0]),
        format=str(first["format"].iloc[0]),
        runs=tuple(kept),
        languages=languages,
        row_language=np.searchsorted(languages, first["language"].to_numpy(dtype=str)),
        row_passage=pd.factorize(first["passage_id"], sort=True)[0],
        row_item=pd.factorize(first["item_id"], sort=True)[0],
        correct=np.stack([table["correct"].to_numpy(np.float64) for table in tables]),
        valid=_stack(tables, "valid"),
        free=_stack_correctness(tables, "greedy"),
        forced=_stack_correctness(tables, "forced"),
        gold_logprob=_stack(tables, "gold_logprob"),
        fertility=fertility,
        per_word=per_word,
        chance=_chance(tables),
    )


def _stack(tables: Sequence[pd.DataFrame], column: str) -> FloatArray | None:
    """A column of all tables, [K, N]; None if a table lacks it or has gaps in it."""
    if any(column not in table or table[column].isna().any() for table in tables):
        return None
    return np.stack([table[column].to_numpy(np.float64) for table in tables])


def _stack_correctness(tables: Sequence[pd.DataFrame], column: str) -> FloatArray | None:
    """Whether a column of choices equals the answer, [K, N]; None if a table lacks either."""
    if any(not {column, "answer"} <= set(table.columns) for table in tables):
        return None
    return np.stack([(table[column] == table["answer"]).to_numpy(np.float64) for table in tables])


def _fertility(
    tables: Sequence[pd.DataFrame], languages: Sequence[str]
) -> tuple[FloatArray | None, bool]:
    """Tokens per word, or per item, of each language, [L]; and whether it is per word."""
    if any(not {"tokens", "words"} <= set(table.columns) for table in tables):
        return None, False
    per_word = all(language(code).spaced for code in languages)
    by_run = []
    for table in tables:
        sums = (
            table[["tokens", "words"]].groupby(table["language"].to_numpy()).agg(["sum", "count"])
        )
        denominator = sums["words"]["sum"] if per_word else sums["tokens"]["count"]
        by_run.append((sums["tokens"]["sum"] / denominator).to_numpy(dtype=float))
    return np.mean(by_run, axis=0), per_word


def _chance(tables: Sequence[pd.DataFrame]) -> float | None:
    """Mean of 1 / (number of choices), from the first table that has choices."""
    for table in tables:
        if "choice_logprobs" in table:
            n_choices = table["choice_logprobs"].map(len).to_numpy()
            return float((1 / n_choices).mean()) if n_choices.min() > 0 else None
    return None
