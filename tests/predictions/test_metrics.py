"""Metrics of predictions: per language, per group of languages, and of tokens."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import probe

from isogloss.inference.predict import predict
from isogloss.languages import table as known_languages
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.metrics import (
    evaluation_metrics,
    language_table,
    logged_metrics,
    position_bias,
    token_metrics,
)
from isogloss.predictions.table import frame
from isogloss.prompts.protocol import Protocol
from isogloss.stats.paired import clustered_standard_error
from isogloss.types import LanguageMetrics


def test_position_bias_is_the_distance_between_positions_of_choices_and_answers() -> None:
    answer, forced, greedy = (
        np.array(values) for values in ([0, 1, 2, 3], [0, 1, 1, 1], [0, -1, -1, 1])
    )
    assert position_bias(forced, answer) == pytest.approx(0.5)
    assert position_bias(answer, answer) == 0
    # The answers of the items that were answered are at 0 and 3, the choices at 0 and 1.
    assert position_bias(greedy, answer) == pytest.approx(0.5)
    assert math.isnan(position_bias(np.array([-1]), np.array([2])))


def test_tokens_per_word_and_item_are_those_of_the_passages(tiny: LanguageModel) -> None:
    items = probe("eng_Latn", "test", 4) + probe("zho_Hans", "test", 4)
    values = token_metrics(frame(predict(tiny, items, Protocol("cloze"), "probe")))
    for code in ("eng_Latn", "zho_Hans"):
        texts = [item.passage for item in items if item.language == code]
        tokens = [len(tiny.tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
        assert values[f"tokens_per_item/{code}"] == pytest.approx(sum(tokens) / 4)
        assert values[f"prompt_tokens/{code}"] > values[f"tokens_per_item/{code}"]
    words = sum(len(item.passage.split()) for item in items[:4])
    english = 4 * values["tokens_per_item/eng_Latn"] / words
    assert values["tokens_per_word/eng_Latn"] == pytest.approx(english)
    assert "tokens_per_word/zho_Hans" not in values


def table(code: str, correct: list[bool], passages: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"language": code, "correct": correct, "passage_id": passages})


def test_every_language_counts_once_in_means_and_groups() -> None:
    predictions = pd.concat(
        [
            table("arb_Arab", [True] * 6, ["a"] * 6),
            table("heb_Hebr", [True, False, False, False], ["a", "a", "b", "b"]),
            table("amh_Ethi", [True, True], ["a", "b"]),
            table("fra_Latn", [False, True], ["a", "b"]),
        ]
    )
    values = evaluation_metrics(predictions, "arb_Arab")
    assert values["accuracy/heb_Hebr"] == 0.25
    assert values["accuracy/mean"] == pytest.approx((1 + 0.25 + 1 + 0.5) / 4)
    assert values["accuracy_group/related"] == pytest.approx((0.25 + 1) / 2)
    assert values["accuracy_group/control"] == 0.5
    assert values["n/arb_Arab"] == 6
    expected = clustered_standard_error([True, False, False, False], ["a", "a", "b", "b"])
    assert values["accuracy_se/heb_Hebr"] == pytest.approx(expected)
    assert "accuracy_se/arb_Arab" not in values  # one passage: undefined
    assert not any(name.startswith(("format_valid", "gold_logprob")) for name in values)
    # Relative to French, the Semitic languages are controls.
    other = evaluation_metrics(predictions, "fra_Latn")
    assert "accuracy_group/related" not in other
    assert other["accuracy_group/control"] == pytest.approx((1 + 0.25 + 1) / 3)


def test_columns_with_missing_values_have_no_metrics() -> None:
    predictions = table("heb_Hebr", [True, False], ["a", "b"]).assign(
        answer=[1, 0], forced=[1, 1], greedy=[1, -1], valid=[True, False], text=["B", "?"],
        prediction=[1, 1], gold_logprob=[-1.0, -3.0], format_mass=[0.5, 0.7],
        shortened=[True, False],
    )  # fmt: skip
    values = evaluation_metrics(predictions, "arb_Arab")
    assert values["accuracy_free/heb_Hebr"] == 0.5
    assert values["accuracy_forced/heb_Hebr"] == 0.5
    assert values["format_valid/heb_Hebr"] == 0.5
    assert values["unparsed/heb_Hebr"] == 0.5
    assert values["gold_logprob/heb_Hebr"] == -2
    assert values["format_mass/heb_Hebr"] == pytest.approx(0.6)
    assert values["position_bias/heb_Hebr"] == pytest.approx(0.5)
    assert values["shortened/heb_Hebr"] == 1
    for column, metric in (
        ("greedy", "accuracy_free"), ("valid", "format_valid"), ("text", "unparsed"),
        ("gold_logprob", "gold_logprob"), ("format_mass", "format_mass"),
        ("format_mass", "position_bias"), ("shortened", "shortened"),
    ):  # fmt: skip
        partial = predictions.astype({column: object})
        partial.iloc[0, partial.columns.get_loc(column)] = None
        assert f"{metric}/heb_Hebr" not in evaluation_metrics(partial, "arb_Arab")
        without = predictions.drop(columns=column)
        assert f"{metric}/heb_Hebr" not in evaluation_metrics(without, "arb_Arab")


def metrics_of_languages(count: int) -> dict[str, float]:
    codes = list(known_languages())[:count]
    values = {}
    for number, code in enumerate(codes):
        own = {"accuracy": number / count, "accuracy_se": 0.1, "n": 8, "gold_logprob": -number}
        values |= {f"{name}/{code}": float(value) for name, value in own.items()}
    values[f"shortened/{codes[3]}"] = 2.0
    return values | {"accuracy_group/related": 0.3, "accuracy/mean": 0.25}


def test_all_values_of_forty_languages_are_metrics_and_the_main_ones_of_more() -> None:
    forty, more = metrics_of_languages(40), metrics_of_languages(41)
    assert logged_metrics(forty) == forty
    assert logged_metrics(more, LanguageMetrics.ALL) == more
    logged = logged_metrics(more)
    assert {name.split("/")[0] for name in more.keys() - logged.keys()} == {
        "gold_logprob", "shortened"
    }  # fmt: skip
    assert logged.keys() - more.keys() == {"gold_logprob/mean", "shortened/mean"}
    assert logged["gold_logprob/mean"] == pytest.approx(-20)  # of 0 to -40
    assert logged["shortened/mean"] == 2
    assert all(logged[name] == value for name, value in more.items() if name in logged)


def test_a_summary_has_means_and_no_single_language() -> None:
    summary = logged_metrics(metrics_of_languages(5), LanguageMetrics.SUMMARY)
    assert summary == {
        "accuracy_group/related": 0.3,
        "accuracy/mean": 0.25,
        "gold_logprob/mean": -2,
        "shortened/mean": 2,
    }


def test_the_table_of_languages_has_a_row_for_each_and_every_value() -> None:
    values = metrics_of_languages(5)
    table = language_table(values)
    assert list(table) == ["language", "accuracy", "accuracy_se", "n", "gold_logprob", "shortened"]
    assert list(table["language"]) == list(known_languages())[:5]
    of_languages = {
        f"{name}/{row['language']}": row[name]
        for _, row in table.iterrows()
        for name in table.columns[1:]
        if not math.isnan(row[name])
    }
    assert of_languages | {"accuracy_group/related": 0.3, "accuracy/mean": 0.25} == values
