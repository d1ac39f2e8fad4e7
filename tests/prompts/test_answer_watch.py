"""Watched texts: what is tested in parts is what `is_complete` says of the whole text."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.prompts.answer_parser import is_complete
from isogloss.prompts.answer_watch import AnswerWatch
from isogloss.prompts.text_folding import fold

WORDS = ("Answer", "الإجابة", "תשובה", "答案")
LABELS = ("A", "B", "C", "D")
PIECES = st.sampled_from(
    [
        *"Answer: BA.\n ", "ans", "wer", "Answer", "ANSWER: C\n", "answer is", "الإجا", "بة", ": ب",
        "الإِجابة: A\n", "ת", "שובה: B.", "תְּשׁוּבָה", "答", "案：B。", "\u0301", "\u0651", "\u200d",
        "\ufffd", "…", "ﬁ", "<think>", "</think>", "ｎ", "ｓ", "e\u0301",
    ]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=25), st.sampled_from(["", "<think>\n"]))
def test_a_watched_text_is_complete_when_the_whole_text_is(pieces: list[str], opened: str) -> None:
    watch = AnswerWatch(WORDS, LABELS, opened)
    text = ""
    for piece in pieces:
        text = text.rstrip("\ufffd") + piece  # as a character whose bytes are all there
        assert watch(text) is is_complete(text, WORDS, labels=LABELS, opened=opened)


def test_a_long_text_is_parsed_only_once_it_has_an_answer_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[str] = []
    monkeypatch.setattr(
        "isogloss.prompts.answer_watch.is_complete", lambda text, *_, **__: parsed.append(text)
    )
    watch = AnswerWatch(WORDS, LABELS, "")
    text = "Because of the flood, the an"
    for end in range(len(text)):
        watch(text[:end])
    assert parsed == []
    watch(f"{text}swer")
    watch(f"{text}swers")
    assert parsed == [f"{text}swer", f"{text}swers"]
    watch("Another text")
    assert len(parsed) == 2


def folded_by_character(text: str) -> tuple[str, list[int]]:
    """Each character with its marks in NFKC, without points, format characters and the like."""
    chars, origins, start = "", [], 0
    while start < len(text):
        end = start + 1
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        for char in unicodedata.normalize("NFKC", text[start:end]):
            category = unicodedata.category(char)
            is_point = category == "Mn" and "\u0590" < char < "\u0700"
            if not is_point and category != "Cf" and char not in "\u0640\r":
                chars += char
                origins.append(start)
        start = end
    return chars, origins


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(PIECES, st.text(max_size=3), st.sampled_from("\r\u0640क्षि")), max_size=12)
)
def test_texts_in_nfkc_fold_as_all_others(pieces: list[str]) -> None:
    for text in ("".join(pieces), unicodedata.normalize("NFKC", "".join(pieces))):
        assert fold(text) == folded_by_character(text)
