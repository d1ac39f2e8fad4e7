"""Codes of languages in the names of tasks, and the names without them."""

import re
from enum import Enum, auto
from functools import cache
from itertools import zip_longest
from typing import NamedTuple

from isogloss.languages import table
from isogloss.languages.codes import languages_of

TOKEN = re.compile(r"[0-9A-Za-z]+")
SEPARATORS = " -_./:"
SCRIPTS = {code[4:] for code in table()}
# Codes that are also words in names of tasks. Those of two letters count only at the end of a name,
# those of three nowhere.
SHORT_WORDS = re.compile(r"am|as|be|ha|he|hi|id|is|it|lg|lo|ml|mt|my|nn|no|or|sm|so|st|te|ti|to|ts")
LONG_WORDS = re.compile(
    r"ace|ban|bug|cat|fil|fin|fur|hat|kin|lit|mag|min|mon|pan|pap|run|san|sin|sun|tel|war"
)


class Standard(Enum):
    """What makes a part of a name the code of a language."""

    GIVEN = auto()  # the parameter language_names
    FLORES = auto()  # a FLORES-200 code, which nothing else looks like
    OTHER = auto()  # a code of ISO 639 or BCP 47
    WORD = auto()  # such a code that is also a word


class Spot(NamedTuple):
    """A part of a task's name that may be the code of a language, and what it may mean."""

    start: int
    end: int
    text: str
    codes: tuple[str, ...]
    standard: Standard


@cache
def spots(name: str, given: tuple[tuple[str, str], ...] = ()) -> tuple[Spot, ...]:
    """The codes of languages in a task's name, from left to right, which do not overlap.

    `given` are names of languages, or of whole tasks, and their codes. Codes of ISO 639 are looked
    for behind the last slash only: before it is the name of a package.
    """
    found = [
        Spot(match.start(), match.end(), match.group(), (code,), Standard.GIVEN)
        for text, code in given
        for match in re.finditer(rf"(?<![0-9A-Za-z]){re.escape(text)}(?![0-9A-Za-z])", name)
    ]
    tokens = list(TOKEN.finditer(name))
    for first, second in zip_longest(tokens, tokens[1:]):
        found += _spots_at(name, first, second)
    found.sort(key=lambda spot: (spot.standard.value, -len(spot.text)))
    kept: list[Spot] = []
    for spot in found:
        if all(spot.end <= other.start or other.end <= spot.start for other in kept):
            kept.append(spot)
    return tuple(sorted(kept))


def without(name: str, code: str | None, given: tuple[tuple[str, str], ...] = ()) -> str:
    """The last part of a task's name without what means a language; the name if that is all."""
    parts = tuple((text, meant) for text, meant in given if text != name)
    kept = name
    for spot in reversed(spots(name, parts)):
        if code in spot.codes:
            before, after = kept[: spot.start], kept[spot.end :]
            kept = before[:-1] + after if before else after[1:]
    return kept.rstrip(SEPARATORS).rpartition("/")[2] or name


def _spots_at(name: str, first: re.Match[str], second: re.Match[str] | None) -> list[Spot]:
    """What may be a code at one word of the name and the word behind it."""
    word = first.group()
    if second is not None and name[first.end() : second.start()] in ("-", "_"):
        pair = name[first.start() : second.end()]
        codes = languages_of(pair)
        if len(word) == 3 and len(second.group()) == 4 and codes:
            return [Spot(first.start(), second.end(), pair, codes, Standard.FLORES)]
        is_region = len(second.group()) == 2 and second.group().isupper()
        if (second.group() in SCRIPTS or is_region) and word.islower() and languages_of(word):
            return [Spot(first.start(), second.end(), pair, codes, Standard.OTHER)]
    codes = languages_of(word) if word.islower() and "/" not in name[first.end() :] else ()
    if not codes:
        return []
    is_last = first.end() == len(name)
    is_word = LONG_WORDS.fullmatch(word) or (SHORT_WORDS.fullmatch(word) and not is_last)
    standard = Standard.WORD if is_word else Standard.OTHER
    return [Spot(first.start(), first.end(), word, codes, standard)]
