"""Texts in a form in which two spellings of the same words are equal, and word boundaries."""

import re
import unicodedata
from functools import cache
from typing import NamedTuple

# Scripts written without spaces between words.
UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u11ff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
)
SURROUNDING = " .,;:!?\"'`*_()[]{}<>|#~«»‹›“”„‘’…。、《》「」『』【】،؛؟۔।॥።፣፤፥፦$\\"


class Folded(NamedTuple):
    """A folded text, and the index in the original text that each of its characters comes from."""

    text: str
    origins: list[int]


def fold(text: str) -> Folded:
    """Return the text in NFKC, without characters that do not distinguish words.

    These are Hebrew and Arabic points, format characters, the Arabic tatweel and carriage returns.
    """
    if unicodedata.is_normalized("NFKC", text):  # and then each of its parts is
        return _folded_in_place(text)
    chars: list[str] = []
    origins: list[int] = []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        for char in unicodedata.normalize("NFKC", text[start:end]):
            if not _is_removed(char):
                chars.append(char)
                origins.append(start)
        start = end
    return Folded("".join(chars), origins)


def _folded_in_place(text: str) -> Folded:
    """Return a text in NFKC without the removed characters; most texts have none."""
    distinct = set(text)
    origins = list(range(len(text)))
    if any(map(unicodedata.combining, distinct)):  # marks come from the character before them
        for index, char in enumerate(text):
            if index and unicodedata.combining(char):
                origins[index] = origins[index - 1]
    removed = set(filter(_is_removed, distinct))
    if not removed:
        return Folded(text, origins)
    kept = [index for index, char in enumerate(text) if char not in removed]
    return Folded("".join(text[index] for index in kept), [origins[index] for index in kept])


@cache
def _is_removed(char: str) -> bool:
    category = unicodedata.category(char)
    is_point = category == "Mn" and "\u0590" < char < "\u0700"
    return is_point or category == "Cf" or char in "\u0640\r"


def comparison_key(folded: str) -> str:
    """Return a folded text without case, surrounding punctuation and repeated spaces.

    A text of punctuation alone stays as it is.
    """
    plain = " ".join(folded.casefold().split())
    return plain.strip(SURROUNDING) or plain


def first_line(text: str) -> str:
    """Return the first line that is not blank, without leading space."""
    return text.lstrip().partition("\n")[0]


def in_word(char: str) -> bool:
    """Whether a character is part of a word; False for an empty string."""
    return bool(char) and (char.isalnum() or unicodedata.category(char)[0] == "M")


def is_word_boundary(text: str, index: int) -> bool:
    """Whether a word may begin or end at this index of a folded text."""
    before, after = text[:index][-1:], text[index : index + 1]
    if unicodedata.category(after or " ")[0] == "M":
        return False
    unspaced = UNSPACED.match(before) or UNSPACED.match(after)
    return bool(unspaced) or not (in_word(before) and in_word(after))
