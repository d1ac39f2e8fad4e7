"""Tokenizers and templates that do not fit their model are refused in one sentence, or handled."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import probe

from isogloss.config import EvaluateConfig
from isogloss.errors import ModelError
from isogloss.inference.context_window import fit_to_model
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol


@pytest.fixture
def own_tokenizer(model_folder: Callable[[str], Path]) -> LanguageModel:
    """A tiny model whose tokenizer a test may change."""
    model = load(locate(str(model_folder("llama"))), "float32")
    model.tokenizer = copy.deepcopy(model.tokenizer)
    return model


def test_a_token_without_an_embedding_is_refused_with_the_item_that_has_it(
    own_tokenizer: LanguageModel,
) -> None:
    items = probe("eng_Latn", "test", 3)
    word = items[1].question.split()[-1]
    own_tokenizer.tokenizer.add_tokens([f" {word}"])
    assert len(own_tokenizer.tokenizer) == 513
    with pytest.raises(ModelError) as error:
        fit_to_model(items, own_tokenizer, Protocol("letter"), EvaluateConfig())
    assert "has 512 embeddings, but its tokenizer writes token 512" in str(error.value)
    assert "in eng_Latn" in str(error.value)


def test_tokens_without_an_embedding_that_no_prompt_has_are_no_fault(
    own_tokenizer: LanguageModel,
) -> None:
    items = probe("eng_Latn", "test", 3)
    own_tokenizer.tokenizer.add_tokens(["<image>"])
    fitted = fit_to_model(items, own_tokenizer, Protocol("letter"), EvaluateConfig())
    assert fitted.items == items
