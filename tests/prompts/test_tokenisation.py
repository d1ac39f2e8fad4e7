"""Tokenisation: prompts and choices as one text, and the tokens of letters."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from isogloss.errors import ModelError
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import Prompt, prompt
from isogloss.prompts.tokenisation import encode, label_tokens, prefix_tokens
from isogloss.tasks import Item
from isogloss.types import Labels

ITEM = Item("i", "p", "heb_Hebr", "Some text.", "Which one? ", ("one", "two", "three", "four"), 2)


class Characters:
    """A tokenizer with one token per character, and other tokens for a text that ends in `merges`."""

    def __init__(self, bos_token_id: int | None = None, adds_bos: bool = False, merges: str = ""):
        self.bos_token_id, self.adds_bos, self.merges = bos_token_id, adds_bos, merges

    def __call__(self, texts: list[str], *, add_special_tokens: bool = True) -> SimpleNamespace:
        bos = [self.bos_token_id] if self.adds_bos and add_special_tokens else []
        return SimpleNamespace(input_ids=[bos + self.tokens(text) for text in texts])

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))

    def tokens(self, text: str) -> list[int]:
        if self.merges and text.endswith(self.merges):
            stem = text.removesuffix(self.merges)
            return [ord(char) for char in stem] + [10_000] * len(self.merges)
        return [ord(char) for char in text]


def test_a_beginning_of_sequence_token_comes_first_only_if_the_tokenizer_adds_one() -> None:
    assert prefix_tokens(Characters(7, adds_bos=True), chat=False) == [7]
    assert prefix_tokens(Characters(7, adds_bos=True), chat=True) == []
    assert prefix_tokens(Characters(7, adds_bos=False), chat=False) == []
    assert prefix_tokens(Characters(None), chat=False) == []


def test_context_and_continuation_are_one_text_split_at_the_length_of_the_context() -> None:
    prompts = [Prompt("ab", ("c", "de")), Prompt("x", ("y",))]
    first, second = encode(Characters(7, adds_bos=True), prompts)
    assert first.sequences == ((7, *map(ord, "abc")), (7, *map(ord, "abde")))
    assert first.starts == (3, 3)
    assert (second.sequences, second.starts) == (((7, *map(ord, "xy")),), (2,))
    (chat,) = encode(Characters(7, adds_bos=True), prompts[1:], chat=True)
    assert (chat.sequences, chat.starts) == ((tuple(map(ord, "xy")),), (1,))
    assert encode(Characters(), []) == []


def test_the_tokens_of_letters_are_described(tiny: LanguageModel) -> None:
    described = label_tokens(tiny.tokenizer, [ITEM], Protocol("letter"))
    for letter in "ABCD":
        ids = tiny.tokenizer(f" {letter}", add_special_tokens=False).input_ids
        assert f"' {letter}' {ids}" in described
    assert label_tokens(tiny.tokenizer, [ITEM], Protocol("cloze")) == ""
    assert label_tokens(tiny.tokenizer, [], Protocol("letter")) == ""


def test_the_letters_are_those_of_the_item_with_the_most_options() -> None:
    two = Item("j", "q", "heb_Hebr", "Text.", "What?", ("one", "two"), 0)
    assert label_tokens(Characters(), [two, ITEM, two], Protocol("letter")) == (
        "' A' [32, 65], ' B' [32, 66], ' C' [32, 67], ' D' [32, 68]"
    )


def test_the_tokens_of_digits_and_of_each_language_with_native_labels_are_described() -> None:
    digits = Protocol("letter", labels=Labels.DIGITS)
    assert label_tokens(Characters(), [ITEM], digits) == (
        "' 1' [32, 49], ' 2' [32, 50], ' 3' [32, 51], ' 4' [32, 52]"
    )
    native = Protocol("letter", labels=Labels.NATIVE)
    two = [replace(ITEM, language=code, options=("one", "two"))
           for code in ("mlt_Latn", "fra_Latn", "heb_Hebr", "amh_Ethi")]  # fmt: skip
    assert label_tokens(Characters(), [*two, replace(two[0], options=("a", "b", "c"))], native) == (
        "' A' [32, 65], ' B' [32, 66], ' C' [32, 67]; ' A' [32, 65], ' B' [32, 66]; "
        "' א' [32, 1488], ' ב' [32, 1489]; ' ሀ' [32, 4608], ' ለ' [32, 4616]"
    )


def test_native_labels_that_a_tokenizer_does_not_know_are_rejected_in_any_language() -> None:
    class Latin(Characters):
        def tokens(self, text: str) -> list[int]:
            return [ord(char) if ord(char) < 256 else 7 for char in text]

    items = [replace(ITEM, language=code) for code in ("fra_Latn", "heb_Hebr")]
    assert label_tokens(Latin(), items, Protocol("letter"))
    with pytest.raises(ModelError, match=r"does not distinguish .* ' א' and ' ב'"):
        label_tokens(Latin(), items, Protocol("letter", labels=Labels.NATIVE))


def test_letters_with_the_same_tokens_are_rejected() -> None:
    class Blind(Characters):
        def tokens(self, text: str) -> list[int]:
            return [ord(char) for char in text[:-2]] + [7, 0] if text else []

    with pytest.raises(ModelError, match=r"does not distinguish .* ' A' and ' B'"):
        label_tokens(Blind(), [ITEM], Protocol("letter"))


def test_a_letter_that_changes_the_tokens_of_the_prompt_is_scored_with_them() -> None:
    # With " A", the last two tokens of the context are others; the number of tokens is the same.
    assert label_tokens(Characters(merges="r: A"), [ITEM], Protocol("letter")) == (
        "' A' [10000, 10000, 10000, 10000], ' B' [114, 58, 32, 66], ' C' [114, 58, 32, 67], "
        "' D' [114, 58, 32, 68]"
    )


def test_prompts_have_one_sequence_per_choice(tiny: LanguageModel) -> None:
    for format in ("letter", "cloze"):
        entry = prompt(ITEM, Protocol(format))
        (encoded,) = encode(tiny.tokenizer, [entry])
        assert len(encoded.sequences) == len(encoded.starts) == 4
        for sequence, text in zip(encoded.sequences, entry.continuations, strict=True):
            assert list(sequence) == tiny.tokenizer(entry.context + text).input_ids
