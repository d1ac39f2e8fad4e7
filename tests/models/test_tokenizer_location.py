"""Tokenizers of models whose weights are elsewhere."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from isogloss.errors import ModelError
from isogloss.models.tokenizer_location import locate_tokenizer
from isogloss.models.tokenizers import shared_tokenizer


def test_a_folder_needs_no_weights_and_its_digest_is_of_what_decides_tokens(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = model_folder("gemma3")
    bare = tmp_path / "tokenizer"
    shutil.copytree(whole, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    assert locate_tokenizer(str(bare)).revision == locate_tokenizer(str(whole)).revision
    text = ["In October the group visited Colombia."]
    expected = transformers.AutoTokenizer.from_pretrained(whole)(text).input_ids
    assert shared_tokenizer(locate_tokenizer(str(bare)))(text).input_ids == expected
    (bare / "tokenizer.json").write_text((bare / "tokenizer.json").read_text() + "\n")
    assert locate_tokenizer(str(bare)).revision != locate_tokenizer(str(whole)).revision


def test_a_name_that_is_none_is_refused_with_what_is_accepted() -> None:
    with pytest.raises(ModelError, match=r"'gpt-9' is neither `embedded`.*set engine\.tokenizer"):
        locate_tokenizer("gpt-9")
