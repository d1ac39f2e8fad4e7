"""The columns of predictions: one list of names for all who read or write them."""

from conftest import probe

from isogloss.analysis import score_matrix
from isogloss.importers import read_results
from isogloss.inference.predict import predict
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.table import (
    COLUMNS,
    DOCUMENT_DIGEST,
    PROMPT_DIGEST,
    REQUIRED_COLUMNS,
    frame,
)
from isogloss.prompts.protocol import Protocol


def test_predictions_have_the_columns_that_users_already_have(tiny: LanguageModel) -> None:
    table = frame(predict(tiny, probe("eng_Latn", "test", 2), Protocol("letter"), "probe"))
    assert tuple(table.columns) == COLUMNS
    assert COLUMNS == (
        "task", "language", "format", "item_id", "passage_id", "answer", "prediction", "correct",
        "valid", "forced", "greedy", "choice_logprobs", "unconditional_logprobs", "gold_logprob",
        "format_mass", "text", "tokens", "words", "prompt_tokens", "shortened",
    )  # fmt: skip
    assert table["format"].tolist() == ["letter", "letter"]


def test_comparisons_and_importers_use_these_columns() -> None:
    imported = {*COLUMNS, DOCUMENT_DIGEST, PROMPT_DIGEST}
    assert set(REQUIRED_COLUMNS) < set(score_matrix.COLUMNS) < imported
    assert set(REQUIRED_COLUMNS) < set(read_results.COLUMNS) < imported
