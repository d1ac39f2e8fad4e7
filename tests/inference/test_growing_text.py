"""Growing texts: decoded in parts, they are what a tokenizer gives for all tokens."""

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models

from isogloss.inference import generation
from isogloss.inference.generation import generate
from isogloss.inference.growing_text import GrowingText, texts_so_far
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.tokenisation import decoded

TEXT = "The river 🌊 floods.\n  Each  spring, «ёлка» 洪水 तूफ़ान … don't <eos> לַיְלָה"


def sentencepiece() -> transformers.PreTrainedTokenizerFast:
    """Pieces and bytes that are decoded as Llama 2 does: the first space is stripped."""
    pieces = ["<bos>", "<eos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁The", "▁ri", "ver", "▁▁"]
    pieces += [letter for letter in dict.fromkeys(TEXT) if letter.isascii() and letter != " "]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )  # fmt: skip
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def sentencepiece_tokens(tokenizer: transformers.PreTrainedTokenizerFast) -> list[int]:
    vocabulary = tokenizer.get_vocab()
    tokens = [vocabulary["▁The"], vocabulary["▁ri"], vocabulary["ver"], vocabulary["▁▁"]]
    for letter in TEXT:
        piece = "▁" if letter == " " else letter
        whole = [vocabulary[piece]] if piece in vocabulary else []
        tokens += whole or [vocabulary[f"<0x{byte:02X}>"] for byte in letter.encode()]
    return tokens


def decoded_in_parts(
    tokenizer: transformers.PreTrainedTokenizerFast, tokens: list[int]
) -> GrowingText:
    """The text after all tokens, once it was equal to the whole text after each of them."""
    text, again = GrowingText(), GrowingText()
    for token in tokens:
        text.tokens.append(token)
        again.tokens.append(tokens[0])
        whole = decoded(tokenizer, [text.tokens, again.tokens], None)
        assert texts_so_far(tokenizer, [text, again], None) == whole
    return text


def test_parts_of_a_byte_level_text_are_the_whole(
    tokenizer: transformers.PreTrainedTokenizerFast,
) -> None:
    tokens = [*tokenizer(TEXT, add_special_tokens=False).input_ids, 1]
    text = decoded_in_parts(tokenizer, tokens)
    assert len(text.tokens) - text.start < 6


def test_parts_of_a_sentencepiece_text_are_the_whole() -> None:
    tokenizer = sentencepiece()
    text = decoded_in_parts(tokenizer, sentencepiece_tokens(tokenizer))
    assert len(text.tokens) - text.start < 20  # seven letters of two bytes


class Reversing:
    """A tokenizer whose text of several tokens does not begin with that of the first."""

    def batch_decode(self, rows: list[list[int]], **_: object) -> list[str]:
        return ["".join(chr(97 + token) for token in reversed(row)) for row in rows]


def test_a_text_that_cannot_be_decoded_in_parts_is_decoded_whole() -> None:
    text = GrowingText()
    for token in range(4):
        text.tokens.append(token)
        (result,) = texts_so_far(Reversing(), [text], None)
        assert result == "dcba"[3 - token :]


def test_a_text_whose_parts_mislead_ends_where_the_whole_text_ends(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts give no text at all, or too much, until the text is compared with the whole."""
    contexts = ["The river", "One", "Two"]
    stops = [lambda text: len(text) > 9, lambda text: "zz" in text, lambda text: len(text) > 40]
    expected = generate(tiny, contexts, 16, stops)
    for wrong in ("", "zz" * 9):
        monkeypatch.setattr(
            generation, "texts_so_far",
            lambda tokenizer, texts, hidden, wrong=wrong: [
                decoded(tokenizer, [text.tokens], hidden)[0] if text.whole else wrong
                for text in texts
            ],
        )  # fmt: skip
        assert generate(tiny, contexts, 16, stops) == expected
