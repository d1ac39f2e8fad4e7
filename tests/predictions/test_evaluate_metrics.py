"""The metrics for the `evaluate` library, offline and without the rest of isogloss."""

import sys
from pathlib import Path

import evaluate
import numpy as np
import pandas as pd
import pytest

from isogloss.predictions.evaluate_metrics import ClusteredAccuracy, FormatValidity
from isogloss.predictions.metrics import evaluation_metrics
from isogloss.prompts.answer_parser import parse_answer
from isogloss.stats.paired import clustered_standard_error

METRICS = Path(__file__).parents[2] / "metrics"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_METRICS_CACHE", str(tmp_path))
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))


def test_accuracy_has_a_standard_error_clustered_by_passage() -> None:
    rng = np.random.default_rng(0)
    choices, answers = rng.integers(-1, 4, 200), rng.integers(0, 4, 200)
    passages = [f"passage {at // 3}" for at in range(200)]
    result = ClusteredAccuracy().compute(predictions=choices, references=answers, clusters=passages)
    assert result["accuracy"] == pytest.approx((choices == answers).mean())
    assert result["accuracy_se"] == pytest.approx(
        clustered_standard_error(choices == answers, passages)
    )
    assert (result["n"], result["n_clusters"]) == (200, 67)


def test_accuracy_can_be_computed_from_batches() -> None:
    metric = ClusteredAccuracy()
    metric.add_batch(predictions=[0, 1], references=[0, 2], clusters=["a", "a"])
    metric.add(prediction=3, reference=3, clusters="b")
    assert metric.compute()["accuracy"] == pytest.approx(2 / 3)


def test_validity_parses_generated_answers_and_returns_the_choices() -> None:
    result = FormatValidity().compute(
        predictions=["B", "Paris", "I cannot say", "Answer: (c)"],
        references=[["Rome", "Paris", "Oslo"]] * 4,
        clusters=["1", "1", "2", "2"],
    )
    assert result["choices"] == [1, 1, -1, 2]
    assert result["format_valid"] == 0.75
    assert result["format_valid_se"] == pytest.approx(
        clustered_standard_error([True, True, False, True], ["1", "1", "2", "2"])
    )


def test_validity_accepts_the_answer_word_of_another_language() -> None:
    result = FormatValidity().compute(
        predictions=["שתיים. תשובה: ב"],
        references=[["אחת", "שלוש"]],
        clusters=["1"],
        answer_words=("תשובה",),
    )
    assert result["choices"] == [1]


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluate` without a network, with its copies of scripts in a folder of the test."""
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", list(sys.path))


def generated(n: int) -> pd.DataFrame:
    """Predictions from generated texts, with the choice that isogloss reads in each."""
    texts = ("B", "The answer is (c).", "Paris", "I cannot say.", "Answer: A")
    options = ("Rome", "Paris", "Oslo")
    choices = [parse_answer(texts[at % 5], options) for at in range(n)]
    rows = [
        {"language": code, "passage_id": f"passage {at // 2}", "answer": at % 3,
         "text": texts[at % 5], "prediction": -1 if choice is None else choice,
         "valid": choice is not None, "correct": choice == at % 3}
        for code in ("heb_Hebr", "fra_Latn")
        for at, choice in enumerate(choices)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.usefixtures("own_modules")
def test_metrics_load_from_folders_and_equal_the_logged_ones_to_the_bit() -> None:
    table = generated(37)
    logged = evaluation_metrics(table, "arb_Arab")
    accuracy = evaluate.load(str(METRICS / "clustered_accuracy"))
    validity = evaluate.load(str(METRICS / "format_validity"))
    for code, rows in table.groupby("language"):
        clusters = rows["passage_id"].tolist()
        right = accuracy.compute(
            predictions=rows["prediction"].tolist(),
            references=rows["answer"].tolist(),
            clusters=clusters,
        )
        assert right["accuracy"] == logged[f"accuracy/{code}"]
        assert right["accuracy_se"] == logged[f"accuracy_se/{code}"]
        assert (right["n"], right["n_clusters"]) == (logged[f"n/{code}"], 19)
        readable = validity.compute(
            predictions=rows["text"].tolist(),
            references=[["Rome", "Paris", "Oslo"]] * len(rows),
            clusters=clusters,
        )
        assert readable["format_valid"] == logged[f"format_valid/{code}"]
        assert readable["format_valid_se"] == logged[f"format_valid_se/{code}"]
        assert readable["choices"] == rows["prediction"].tolist()
    assert 0 < logged["accuracy/fra_Latn"] < 1
    assert 0 < logged["format_valid/fra_Latn"] < 1
