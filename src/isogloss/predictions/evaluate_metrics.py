"""Metrics for Hugging Face's `evaluate` library, usable alone and without the Hub.

from isogloss.predictions.evaluate_metrics import ClusteredAccuracy, FormatValidity

ClusteredAccuracy().compute(
    predictions=[0, 1, 3], references=[0, 2, 3], clusters=["passage 1", "passage 1", "passage 2"]
)
"""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from isogloss.prompts.answer_parser import ENGLISH, parse_answer
from isogloss.stats.paired import clustered_standard_error

CITATION = "Miller (2024): Adding Error Bars to Evals, arXiv:2411.00640"


class ClusteredAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Accuracy with a standard error clustered by passage.

    `compute(predictions, references, clusters)` takes for each item the index of the choice (-1 for
    none, which counts as wrong), the index of the correct choice, and the cluster. It returns
    `accuracy`, `accuracy_se` (see `stats.paired.clustered_standard_error`; NaN with one cluster),
    `n` and `n_clusters`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy with a standard error clustered by passage.",
            citation=CITATION,
            inputs_description=self.__doc__ or "",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("int64"),
                    "references": datasets.Value("int64"),
                    "clusters": datasets.Value("string"),
                }
            ),
        )

    def _compute(
        self, predictions: list[int], references: list[int], clusters: list[str], **_: object
    ) -> dict[str, float]:
        correct_I = np.equal(predictions, references)
        return {
            "accuracy": float(correct_I.mean()),
            "accuracy_se": clustered_standard_error(correct_I, clusters),
            "n": len(correct_I),
            "n_clusters": len(set(clusters)),
        }


class FormatValidity(evaluate.Metric):  # type: ignore[misc]
    """Share of generated answers that choose one of the options, with a clustered standard error.

    `compute(predictions, references, clusters)` takes for each item the generated text, the
    options, and the cluster. Texts are parsed by `prompts.answer_parser.parse_answer`, with
    `answer_words` as answer words (English by default). It returns `format_valid`,
    `format_valid_se`, `n` and `choices`, the index of each item's choice (-1 for none).
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of generated answers that choose one of the options.",
            citation=CITATION,
            inputs_description=self.__doc__ or "",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                    "clusters": datasets.Value("string"),
                }
            ),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        clusters: list[str],
        answer_words: Sequence[str] = ENGLISH,
        **_: object,
    ) -> dict[str, float | list[int]]:
        choices = [
            parse_answer(text, options, answer_words)
            for text, options in zip(predictions, references, strict=True)
        ]
        valid_I = np.array([choice is not None for choice in choices])
        return {
            "format_valid": float(valid_I.mean()),
            "format_valid_se": clustered_standard_error(valid_I, clusters),
            "n": len(valid_I),
            "choices": [-1 if choice is None else choice for choice in choices],
        }
