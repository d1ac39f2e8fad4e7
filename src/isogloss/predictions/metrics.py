"""Metrics of a table of predictions, per language and per group of languages."""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from isogloss.languages import group, language
from isogloss.stats.paired import clustered_standard_error
from isogloss.types import Group


def evaluation_metrics(
    predictions: pd.DataFrame, source: str, branch: str | None = None
) -> dict[str, float]:
    """Metrics of an evaluate run, by language and group of languages relative to `source`.

    Those of columns that the predictions do not have, as imported ones may not, are left out.

    Accuracies are fractions; standard errors are clustered by passage; `accuracy/mean` and
    `accuracy_group/*` are means over languages, each language counting once. One
    that is undefined is left out, as the standard error from a single passage.
    """
    values: dict[str, float] = {}
    for code, rows in predictions.groupby("language"):
        for name, value in _of_language(rows).items():
            values[f"{name}/{code}"] = value
    languages = sorted(predictions["language"].unique())
    for name in (Group.RELATED, Group.CONTROL):
        members = [code for code in languages if group(code, source, branch) == name]
        if members:
            values[f"accuracy_group/{name}"] = float(
                np.mean([values[f"accuracy/{code}"] for code in members])
            )
    values["accuracy/mean"] = float(np.mean([values[f"accuracy/{code}"] for code in languages]))
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _of_language(rows: pd.DataFrame) -> dict[str, float]:
    """Metrics of one language, of what was recorded; `nan` where one has no meaning."""

    def known(*columns: str) -> bool:
        return all(column in rows and rows[column].notna().all() for column in columns)

    correct_I = rows["correct"].to_numpy(dtype=float)
    passage_I = rows["passage_id"].to_numpy()
    values = {
        "accuracy": float(correct_I.mean()),
        "accuracy_se": clustered_standard_error(correct_I, passage_I),
        "n": float(len(rows)),
    }
    for column, name in (("greedy", "accuracy_free"), ("forced", "accuracy_forced")):
        if known(column, "answer"):
            values[name] = float((rows[column] == rows["answer"]).mean())
    if known("valid"):
        valid_I = rows["valid"].to_numpy(dtype=float)
        values["format_valid"] = float(valid_I.mean())
        values["format_valid_se"] = clustered_standard_error(valid_I, passage_I)
        if known("text"):
            values["unparsed"] = 1 - values["format_valid"]
    if known("gold_logprob"):
        values["gold_logprob"] = float(rows["gold_logprob"].mean())
    if known("format_mass"):
        values["format_mass"] = float(rows["format_mass"].mean())
        values["position_bias"] = position_bias(
            rows["prediction"].to_numpy(), rows["answer"].to_numpy()
        )
    if known("shortened") and rows["shortened"].any():
        values["shortened"] = float(rows["shortened"].sum())
    return values


def position_bias(chosen_I: npt.NDArray[np.int64], answer_I: npt.NDArray[np.int64]) -> float:
    """How far the choices shown first, second, ... are preferred beyond being right, in [0, 1].

    Total variation distance between the positions of `chosen_I` and of `answer_I`, both [I]; items
    without a choice (-1) are left out. 0: as often as right; 1: never where the answers are.
    """
    made = chosen_I >= 0
    if not made.any():
        return math.nan
    n = int(max(chosen_I.max(), answer_I.max())) + 1
    shares = [np.bincount(position[made], minlength=n) for position in (chosen_I, answer_I)]
    return float(np.abs(shares[0] - shares[1]).sum() / (2 * made.sum()))


def token_metrics(predictions: pd.DataFrame) -> dict[str, float]:
    """Tokens per item and per word of each language: `tokens_per_item/CODE` and
    `tokens_per_word/CODE`, of passages (questions, where there is none) without the prompt's frame;
    `prompt_tokens/CODE`, the mean length of what the model reads.

    Words are what stands between spaces, so languages written without them (Chinese, Thai, ...)
    have no tokens per word.
    """
    values: dict[str, float] = {}
    for code, rows in predictions.groupby("language"):
        values[f"tokens_per_item/{code}"] = float(rows["tokens"].mean())
        values[f"prompt_tokens/{code}"] = float(rows["prompt_tokens"].mean())
        if language(str(code)).spaced:
            values[f"tokens_per_word/{code}"] = float(rows["tokens"].sum() / rows["words"].sum())
    return values
