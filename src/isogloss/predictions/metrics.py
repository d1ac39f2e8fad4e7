"""Metrics of a table of predictions, per language and per group of languages."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from isogloss.languages import group, language
from isogloss.stats.paired import clustered_standard_error
from isogloss.types import Group, LanguageCode, LanguageMetrics

MANY_LANGUAGES = 40  # of more, the lists of MLflow's UI get slow if every value is a metric
MAIN = ("accuracy", "accuracy_se", "n", "format_valid")  # metrics of each of many languages
WITHOUT_MEAN = ("accuracy_se", "format_valid_se", "n")


def evaluation_metrics(
    predictions: pd.DataFrame, source: LanguageCode | None, branch: str | None = None
) -> dict[str, float]:
    """Return the metrics of an evaluate run, per language and per group relative to `source`.

    The base model has no source, and `source` None gives no metrics of groups.

    Accuracies are fractions; standard errors are clustered by passage. In `accuracy/mean` and
    `accuracy_group/*` every language counts once. Undefined metrics are left out, such as the
    standard error of a single passage, and so are those of columns that imported predictions lack.
    """
    values: dict[str, float] = {}
    for code, rows in predictions.groupby("language"):
        for name, value in _language_metrics(rows).items():
            values[f"{name}/{code}"] = value
    languages = sorted(predictions["language"].unique())
    groups = {code: group(code, source, branch) for code in languages} if source else {}
    for name in (Group.RELATED, Group.CONTROL):
        members = [code for code in languages if groups.get(code) == name]
        if members:
            values[f"accuracy_group/{name}"] = float(
                np.mean([values[f"accuracy/{code}"] for code in members])
            )
    values["accuracy/mean"] = float(np.mean([values[f"accuracy/{code}"] for code in languages]))
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _language_metrics(rows: pd.DataFrame) -> dict[str, float]:
    """Return the metrics of one language that its columns allow, NaN for undefined ones."""

    def recorded(*columns: str) -> bool:
        return all(column in rows and rows[column].notna().all() for column in columns)

    correct_I = rows["correct"].to_numpy(dtype=float)
    passage_I = rows["passage_id"].to_numpy()
    values = {
        "accuracy": float(correct_I.mean()),
        "accuracy_se": clustered_standard_error(correct_I, passage_I),
        "n": float(len(rows)),
    }
    for column, name in (("greedy", "accuracy_free"), ("forced", "accuracy_forced")):
        if recorded(column, "answer"):
            values[name] = float((rows[column] == rows["answer"]).mean())
    if recorded("valid"):
        valid_I = rows["valid"].to_numpy(dtype=float)
        values["format_valid"] = float(valid_I.mean())
        values["format_valid_se"] = clustered_standard_error(valid_I, passage_I)
        if recorded("text"):
            values["unparsed"] = 1 - values["format_valid"]
    if recorded("gold_logprob"):
        values["gold_logprob"] = float(rows["gold_logprob"].mean())
    if recorded("format_mass"):
        values["format_mass"] = float(rows["format_mass"].mean())
        values["position_bias"] = position_bias(
            rows["prediction"].to_numpy(), rows["answer"].to_numpy()
        )
    if recorded("shortened") and rows["shortened"].any():
        values["shortened"] = float(rows["shortened"].sum())
    return values


def position_bias(chosen_I: npt.NDArray[np.int64], answer_I: npt.NDArray[np.int64]) -> float:
    """Return how far choices prefer positions beyond those of the answers, in [0, 1].

    The total variation distance between the positions of `chosen_I` and of `answer_I`, both [I],
    without items that have no choice (-1). It is 0 if every position is chosen as often as it is
    the answer, and NaN without any choice.
    """
    is_choice_I = chosen_I >= 0
    if not is_choice_I.any():
        return math.nan
    n_positions = int(max(chosen_I.max(), answer_I.max())) + 1
    chosen_P, answer_P = (
        np.bincount(position_I[is_choice_I], minlength=n_positions)
        for position_I in (chosen_I, answer_I)
    )
    return float(np.abs(chosen_P - answer_P).sum() / (2 * is_choice_I.sum()))


def token_metrics(predictions: pd.DataFrame) -> dict[str, float]:
    """Return tokens per item, per word and per prompt of each language.

    `tokens_per_item/CODE` and `tokens_per_word/CODE` count passages, or the questions of items
    without a passage; `prompt_tokens/CODE` is the mean length of whole prompts. Words are separated
    by spaces, so languages written without spaces (Chinese, Thai, ...) have no tokens per word.
    """
    values: dict[str, float] = {}
    for code, rows in predictions.groupby("language"):
        values[f"tokens_per_item/{code}"] = float(rows["tokens"].mean())
        values[f"prompt_tokens/{code}"] = float(rows["prompt_tokens"].mean())
        if language(str(code)).spaced:
            values[f"tokens_per_word/{code}"] = float(rows["tokens"].sum() / rows["words"].sum())
    return values


def language_table(values: Mapping[str, float]) -> pd.DataFrame:
    """The metrics of single languages as a table: one row per language, one column per metric."""
    codes = _codes(values)
    names = dict.fromkeys(name for name, code in map(_split, values) if code in codes)
    columns = {name: [values.get(f"{name}/{code}", math.nan) for code in codes] for name in names}
    return pd.DataFrame({"language": codes, **columns})


def logged_metrics(
    values: Mapping[str, float], choice: LanguageMetrics = LanguageMetrics.AUTO
) -> dict[str, float]:
    """The metrics of a run that are logged as metrics, with means in place of those left out.

    `choice` as in the parameter `metrics`. Means are over the languages that have a value.
    """
    codes = _codes(values)
    everything = choice == LanguageMetrics.AUTO and len(codes) <= MANY_LANGUAGES
    if choice == LanguageMetrics.ALL or everything:
        return dict(values)
    kept = MAIN if choice == LanguageMetrics.AUTO else ()
    logged: dict[str, float] = {}
    by_name: dict[str, list[float]] = {}
    for key, value in values.items():
        name, code = _split(key)
        if code not in codes or name in kept:
            logged[key] = value
        if code in codes and name not in WITHOUT_MEAN:
            by_name.setdefault(name, []).append(value)
    means = {f"{name}/mean": float(np.mean(of_name)) for name, of_name in by_name.items()}
    return means | logged


def _codes(values: Mapping[str, float]) -> list[LanguageCode]:
    """The languages of metrics: each has a number of items."""
    return [code for name, code in map(_split, values) if name == "n"]


def _split(key: str) -> tuple[str, str]:
    name, _, code = key.partition("/")
    return name, code
