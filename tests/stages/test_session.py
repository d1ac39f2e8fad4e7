"""The base model of one process."""

from collections.abc import Callable
from pathlib import Path

from isogloss.models.tokenizers import shared_tokenizer
from isogloss.stages.session import Session


def test_the_tokenizer_is_loaded_once_for_prompts_and_model(
    model_folder: Callable[[str], Path],
) -> None:
    session = Session(str(model_folder("gemma3")), "float32")
    before = session.tokenizer
    assert session.model.tokenizer is before
    assert session.tokenizer is before is shared_tokenizer(session.location)
