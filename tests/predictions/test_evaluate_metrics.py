"""The metrics for the `evaluate` library, offline and without the rest of isogloss."""

import numpy as np
import pytest

from isogloss.predictions.evaluate_metrics import ClusteredAccuracy, FormatValidity
from isogloss.stats.paired import clustered_standard_error


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
