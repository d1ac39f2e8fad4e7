"""A table of results, one row per answer, becomes tables of predictions, one per run."""

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from isogloss.analysis.score_matrix import COLUMNS, RunKey, first_few
from isogloss.errors import DataError
from isogloss.languages import language, pooled_source
from isogloss.types import Condition

logger = logging.getLogger(__name__)

REQUIRED = ("model", "condition", "language", "item_id", "correct")
CHOICES = ("answer", "forced", "greedy")
OPTIONAL = tuple(name for name in ("source", "seed", *COLUMNS) if name not in REQUIRED)
UNNAMED_TASK, UNKNOWN_FORMAT = "unnamed task", "unknown"


def tables_of_results(frame: pd.DataFrame, source: str) -> dict[RunKey, pd.DataFrame]:
    """Split results into runs, by model, condition, source and seed.

    `frame` has the columns `REQUIRED` and any of `OPTIONAL`; others are ignored. Adapters without a
    source were tuned on `source`. Raises DataError for a frame that cannot be used; items that
    occur twice, or not in every run, are found by the comparison.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"results must be a pandas DataFrame but got {type(frame).__name__}.")
    _check_columns(frame)
    rows = frame.reset_index(drop=True)
    rows = rows.assign(
        model=_texts(rows, "model"),
        language=_texts(rows, "language"),
        item_id=_texts(rows, "item_id"),
        condition=_texts(rows, "condition"),
        correct=_truths(rows, "correct"),
        passage_id=_texts(rows, "passage_id" if "passage_id" in rows else "item_id"),
        task=_texts(rows, "task", UNNAMED_TASK),
        format=_texts(rows, "format", UNKNOWN_FORMAT),
        seed=_texts(rows, "seed", ""),
        source=_texts(rows, "source", "").map(lambda code: pooled_source(code) if code else ""),
    )
    rows = rows.assign(**{name: _choices(rows, name) for name in CHOICES if name in rows})
    _check_conditions(rows["condition"])
    _check_choices(rows)
    _check_optional(rows)
    for code in rows["language"].unique():
        language(code)
    source = pooled_source(source)
    tuned = rows["condition"].map(lambda value: Condition(value).tuned)
    rows["source"] = rows["source"].where(rows["source"] != "", source).where(tuned, "")
    tables = {}
    for values, table in rows.groupby(["model", "condition", "source", "seed"]):
        model, condition, source_code, seed = map(str, values)
        run = RunKey(model, Condition(condition), source_code, seed)
        tables[run] = _recorded_columns(table, run)
    return tables


def _recorded_columns(table: pd.DataFrame, run: RunKey) -> pd.DataFrame:
    """The columns that a comparison reads, without those that have gaps in this run."""
    columns = [name for name in COLUMNS if name in table]
    gaps = [name for name in columns if table[name].isna().any()]
    if partial := [name for name in gaps if not table[name].isna().all()]:
        logger.info(f"{run}: ignoring {', '.join(partial)}, which some rows lack")
    return table[[name for name in columns if name not in gaps]]


def _check_columns(frame: pd.DataFrame) -> None:
    if missing := [name for name in REQUIRED if name not in frame.columns]:
        raise DataError(
            f"results lack the columns {', '.join(missing)}; expected {', '.join(REQUIRED)} and "
            f"any of {', '.join(OPTIONAL)}."
        )
    if frame.empty:
        raise DataError("results have no rows.")
    if unused := [str(name) for name in frame.columns if name not in (*REQUIRED, *OPTIONAL)]:
        logger.info(f"ignoring the columns {', '.join(unused)}")


def _texts(rows: pd.DataFrame, name: str, default: str | None = None) -> "pd.Series[str]":
    """A column as text; whole numbers without a decimal point. Gaps need a default."""
    if name not in rows:
        return pd.Series(default, index=rows.index, dtype=object)
    column = rows[name].astype(object)
    missing = column.isna() | (column == "")
    if missing.any() and default is None:
        raise DataError(f"results have no value of `{name}` in {_places(rows.index[missing])}.")
    return column.map(_text).where(~missing, default)


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _truths(rows: pd.DataFrame, name: str) -> "pd.Series[bool]":
    """A column of true and false; gaps are an error."""
    right, wrong = rows[name].isin([1]), rows[name].isin([0])
    if not (right | wrong).all():
        bad = rows.index[~(right | wrong)]
        raise DataError(
            f"`{name}` must be true or false (1 or 0) but is {rows[name][bad[0]]!r} in "
            f"{_places(bad)}."
        )
    return right


def _check_optional(rows: pd.DataFrame) -> None:
    """Raise DataError for values of `valid` and `gold_logprob` that are no such thing."""
    if "valid" in rows:
        _truths(rows[rows["valid"].notna()], "valid")
    if "gold_logprob" in rows:
        logprobs = pd.to_numeric(rows["gold_logprob"], errors="coerce")
        bad = rows.index[logprobs.isna() & rows["gold_logprob"].notna()]
        if len(bad):
            raise DataError(
                f"`gold_logprob` must be a number but is {rows['gold_logprob'][bad[0]]!r} in "
                f"{_places(bad)}."
            )


def _choices(rows: pd.DataFrame, name: str) -> "pd.Series[float]":
    """A column of choices as numbers, which other columns are compared with; gaps stay."""
    column = rows[name].astype(object).where(rows[name].notna() & (rows[name] != ""), None)
    is_text = column.map(lambda value: isinstance(value, str))
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    bad = rows.index[(numbers.isna() & column.notna()) | (numbers.notna() & (numbers % 1 != 0))]
    if len(bad):
        kind = "text" if is_text[bad[0]] else "a number"
        raise DataError(
            f"`{name}` must hold whole numbers (indices of choices, from 0) but is {kind}, "
            f"{column[bad[0]]!r}, in {_places(bad)}."
        )
    return numbers


def _check_conditions(conditions: "pd.Series[str]") -> None:
    unknown = conditions[~conditions.isin(list(Condition))]
    if len(unknown):
        raise DataError(
            f"condition {unknown.iloc[0]!r} in {_places(unknown.index)} is unknown; expected one "
            f"of {', '.join(Condition)}."
        )


def _check_choices(rows: pd.DataFrame) -> None:
    if "choice_logprobs" not in rows:
        return
    is_list = rows["choice_logprobs"].map(lambda value: isinstance(value, list | np.ndarray))
    bad = rows.index[~is_list & rows["choice_logprobs"].notna()]
    if len(bad):
        raise DataError(
            f"`choice_logprobs` must hold lists of numbers but is "
            f"{rows['choice_logprobs'][bad[0]]!r} in {_places(bad)}."
        )
    recorded = rows["choice_logprobs"][is_list]
    finite = recorded.map(lambda values: bool(np.isfinite(np.asarray(values, dtype=float)).all()))
    if not finite.all():
        first = finite.index[~finite][0]
        raise DataError(
            f"`choice_logprobs` of item {rows['item_id'][first]!r} in {rows['language'][first]} "
            f"must be finite but is {recorded[first]!r} (row {first})."
        )


def _places(index: Iterable[int]) -> str:
    rows = list(index)
    return f"row{'s' if len(rows) > 1 else ''} {first_few(rows)}"
