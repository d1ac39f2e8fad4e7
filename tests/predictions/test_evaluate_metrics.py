"""The metrics of the `evaluate` library, offline and away from everything else of isogloss."""

import numpy as np
import pytest

from isogloss.predictions.evaluate_metrics import ClusteredAccuracy, FormatValidity
from isogloss.stats.paired import clustered_standard_error


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_METRICS_CACHE", str(tmp_path))
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))


def test_accuracy_has_an_error_clustered_by_passage() -> None:
    rng = np.random.default_rng(0)
    chosen, right = rng.integers(-1, 4, 200), rng.integers(0, 4, 200)
    passages = [f"passage {at // 3}" for at in range(200)]
    found = ClusteredAccuracy().compute(predictions=chosen, references=right, clusters=passages)
    assert found["accuracy"] == pytest.approx((chosen == right).mean())
    assert found["accuracy_se"] == pytest.approx(
        clustered_standard_error(chosen == right, passages)
    )
    assert (found["n"], found["n_clusters"]) == (200, 67)


def test_accuracy_can_be_added_batch_by_batch() -> None:
    metric = ClusteredAccuracy()
    metric.add_batch(predictions=[0, 1], references=[0, 2], clusters=["a", "a"])
    metric.add(prediction=3, reference=3, clusters="b")
    assert metric.compute()["accuracy"] == pytest.approx(2 / 3)


def test_validity_reads_generated_answers_and_says_what_it_read() -> None:
    found = FormatValidity().compute(
        predictions=["B", "Paris", "I cannot say", "Answer: (c)"],
        references=[["Rome", "Paris", "Oslo"]] * 4,
        clusters=["1", "1", "2", "2"],
    )
    assert found["choices"] == [1, 1, -1, 2]
    assert found["format_valid"] == 0.75
    assert found["format_valid_se"] == pytest.approx(
        clustered_standard_error([True, True, False, True], ["1", "1", "2", "2"])
    )


def test_validity_takes_the_answer_word_of_another_language() -> None:
    found = FormatValidity().compute(
        predictions=["שתיים. תשובה: ב"],
        references=[["אחת", "שלוש"]],
        clusters=["1"],
        answer_words=("תשובה",),
    )
    assert found["choices"] == [1]
