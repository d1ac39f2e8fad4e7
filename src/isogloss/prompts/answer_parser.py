"""Answers: which of an item's options a generated text chooses.

Prompts list options as A, B, ...; a text may answer with that letter, with the option's text, or
with a digit or a letter of its own script in the order in which that script enumerates. These are
tried, and the first that finds an option decides:

1. Answer markers from the last to the first: an answer word or English "answer", with or without
   a colon or a word for "is". Right after one: the letter (also lower-case), a digit or an option's
   text; else, after a colon or "is", the one letter or option that the rest of the line names. A
   marker with a colon whose line cannot be read decides too: the answer is None.
2. The start of the text: a letter before punctuation, or a first line that is a letter, a digit or
   an option and nothing else.
3. The last letter in parentheses or after a word for "option".
4. The one option whose text stands in the last line.

Of a text that broke off, for want of tokens, only an answer after a marker counts, or one that is
its whole first line: what it happened to name last was not its answer.

What a model adds after its answer (base models go on with a next question) is cut first: after a
first line that is an answer or an answer after a colon, from the next empty line or line such as
"Q:" or "Câu hỏi:"; after other answers only from a line that begins with one word and a colon.
Details that decide what is read:

- An option's text of two or more characters comes first, then the letters that the prompt shows,
  then shorter texts, then digits, lower-case and native letters. No digit is a place where any
  option has a digit in its text.
- A letter must be followed by punctuation, the end of the line or its option's text. After a
  marker "B because" is read as well, but not "A dog", "I think" (A, E and I are words) or
  "B or C".
- A letter that looks like a Latin one has two readings: Cyrillic В is the third by order and B by
  its looks. Where both are options it is None, unless its option's text follows or a letter that is
  only Cyrillic (Б, Г, Д) stands alone elsewhere in the text, which shows a Cyrillic list.
- Arabic letters are in abjad order (ا ب ج د ه و ز ح ط ي), Persian پ is third. ت and ث are not read:
  third and fourth in Arabic lists in alphabetical order, but ت is fourth in Persian ones.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

from isogloss.errors import DataError
from isogloss.prompts.answer_patterns import (
    COLON,
    IS,
    IS_ATTACHED,
    LATIN,
    LETTER,
    LETTER_END,
    LISTED,
    LOOKS_LIKE,
    NEGATION,
    ONLY_CYRILLIC,
    OPENING,
    PLACES,
    POINTED,
    PREDICATES,
    SENTENCE,
    SURROUNDING,
    UNSPACED,
)

ENGLISH = ("Answer",)
PARSER_VERSION = "3"  # part of fingerprints: raise it with the rules
MOST_OPTIONS = 10


class Mark(NamedTuple):
    """An answer marker: where it begins, where an answer may begin, and what it ends with."""

    start: int
    end: int
    kind: Literal["colon", "is", "bare"]


class Choices(NamedTuple):
    """Options as compared, whether a digit may be a place, whether letters are Cyrillic ones."""

    keys: tuple[str, ...]
    digits: bool
    cyrillic: bool


def parse_answer(
    text: str,
    options: Sequence[str],
    answer_words: Sequence[str] = ENGLISH,
    *,
    ended: bool = True,
) -> int | None:
    """The place of the option that a text chooses, None if it cannot be told (see the module).

    `text` is what a model generated after "Answer:", or reasoning that ends in an answer. Options
    are compared without case, points, spaces or surrounding punctuation; of equal ones the first
    is meant. `ended` says that the text came to its end. Raises DataError unless there are two to
    ten options.
    """
    if not 2 <= len(options) <= MOST_OPTIONS:
        raise DataError(f"answers are read among 2 to {MOST_OPTIONS} options, not {len(options)}.")
    whole = _fold(text)[0].strip()
    keys = tuple(_key(_fold(option)[0]) for option in options)
    digits = not any(char.isdigit() for key in keys for char in key)
    choices = Choices(keys, digits, cyrillic=bool(ONLY_CYRILLIC.search(whole)))
    start, complete = _at_start(whole, choices)
    if start is not None:
        answer = Mark(0, 0, "colon" if complete else "is")
        whole = whole[: _next_question(whole, answer, answer_words)]
    for mark in _marks(whole, answer_words):
        if _after(whole[mark.end :], mark.kind, choices) is not None:
            whole = whole[: _next_question(whole, mark, answer_words)]
            break
    for mark in reversed(_marks(whole, answer_words)):
        rest = whole[mark.end :]
        found = _after(rest, mark.kind, choices)
        if found is not None or (mark.kind == "colon" and _key(rest)):
            return found
    if start is not None and (ended or complete):
        return start
    if not ended:
        return None
    if pointed := _pointed_at(whole, choices):
        return pointed[-1]
    return _only(_occurring(_key(whole.rstrip().rpartition("\n")[2]), choices))


def answer_start(text: str, answer_words: Sequence[str] = ENGLISH) -> int | None:
    """Where the last answer marker with a colon or "is" begins, None if there is none.

    What precedes it is the reasoning. Markers in a next question after a closed answer are not
    counted.
    """
    folded, positions = _fold(text)
    marks = [mark for mark in _marks(folded, answer_words) if mark.kind != "bare"]
    ended = next((mark for mark in marks if _ended(folded, mark)), None)
    end = len(folded) if ended is None else _next_question(folded, ended, answer_words)
    return max((positions[mark.start] for mark in marks if mark.start < end), default=None)


def is_complete(text: str, answer_words: Sequence[str] = ENGLISH) -> bool:
    """Whether a marker is followed by a whole answer, so that generation can stop.

    After a colon that is any text up to a line break or the end of a sentence; after "answer is",
    a letter: "The answer is clear." does not close. A full stop after a digit or a short word may
    be a decimal point or an abbreviation and does not close either.
    """
    folded, _ = _fold(text)
    return any(_ended(folded, mark) for mark in _marks(folded, answer_words))


def _fold(text: str) -> tuple[str, list[int]]:
    """NFKC without what does not tell words apart, and where in `text` each character is from."""
    chars: list[str] = []
    positions: list[int] = []
    at = 0
    while at < len(text):
        end = at + 1
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        for char in unicodedata.normalize("NFKC", text[at:end]):
            category = unicodedata.category(char)
            point = category == "Mn" and "\u0590" < char < "\u0700"  # of Hebrew and Arabic
            if not point and category != "Cf" and char not in "\u0640\r":
                chars.append(char)
                positions.append(at)
        at = end
    return "".join(chars), positions


def _key(folded: str) -> str:
    """A folded text as it is compared; one of punctuation alone stays as it is."""
    plain = " ".join(folded.casefold().split())
    return plain.strip(SURROUNDING) or plain


def first_line(text: str) -> str:
    """The first line that has anything in it; a direct answer is no more than that."""
    return text.lstrip().partition("\n")[0]


@cache
def _marker(words: tuple[str, ...]) -> re.Pattern[str]:
    def bordered(word: str) -> str:
        # Scripts that attach prefixes or write no spaces have no border to look for.
        free = UNSPACED.match(word) or "\u0590" < word[0] < "\u0700"
        return re.escape(word) if free else rf"(?<![^\W\d_]){re.escape(word)}(?![^\W\d_])"

    folded = sorted({_fold(word)[0] for word in (*words, "answer")}, key=len, reverse=True)
    return re.compile(
        r"(?:[*_#]{1,4} ?)?(?:the )?(?:final |correct |right |best )*"
        rf"(?:{'|'.join(map(bordered, folded))})(?: choice| option)?[*_`]*"
        rf"(?P<is>\s*(?:{IS_ATTACHED})|\s+(?:{IS})(?!\w))?[*_`]*"
        rf"(?P<colon>[^\S\n]*{COLON}(?![\"”»」'](?:\W|$)))?[*_`]*",
        re.IGNORECASE,
    )


def _marks(text: str, words: Sequence[str]) -> list[Mark]:
    marks = []
    for match in _marker(tuple(words)).finditer(text):
        kind: Literal["colon", "is", "bare"]
        kind = "colon" if match["colon"] else "is" if match["is"] else "bare"
        marks.append(Mark(match.start(), match.end(), kind))
    return marks


def _next_question(text: str, mark: Mark, words: Sequence[str]) -> int:
    """Where a new question begins after the line of an answer; the text's end if none does."""
    start = len(text) - len(text[mark.end :].lstrip())
    label = rf"\s*[*_#]*(?![A-J]\b)[^\W\d_][^\n:.,]{{0,24}}{COLON}"
    empty = r"[^\S\n]*\n|" if mark.kind == "colon" else ""
    spaces = 1 if mark.kind == "colon" else 0  # "Câu hỏi:", but "It says:" may be reasoning
    for match in re.compile(rf"\n(?:{empty}{label})").finditer(text, start):
        if match[0].strip().count(" ") <= spaces and not _marker(tuple(words)).search(match[0]):
            return match.start()
    return len(text)


def _after(text: str, kind: str, choices: Choices) -> int | None:
    """The option that a text after a marker begins with or, but for a bare marker, names."""
    here, _, below = text.partition("\n")
    alone_on_line = not here.strip(SURROUNDING)
    if kind == "is" or (kind == "bare" and not alone_on_line):
        text = here  # "The answer is" in one line and the number of the next are no answer
    numbered = alone_on_line and LISTED.match(below)
    opened = _opened(text)
    lines = (_key(first_line(text)), _key(first_line(opened)))
    texts = [place for line in lines for place in _leading(line, choices)]
    token, rest, places = _token(opened, choices)
    if numbered and not places & _own(rest, choices):
        return None
    # "B because", "is A because", but not "A dog" or "B or C".
    goes_on = token in LATIN and re.match(r"\s+(?!\w+\s+[A-J]\b)", rest) is not None
    word = token in "AEI" if kind == "colon" else token == "I"
    alone = _stands_alone(rest, token) or (goes_on and kind != "bare" and not word)
    letter = _only(places & _own(rest, choices) or (places if alone else set()))
    shown = token in LATIN and letter is not None
    if long := [place for place in texts if len(choices.keys[place]) > 1]:
        return long[0]
    if texts and not shown:
        return texts[0]
    return _named(first_line(text), choices) if letter is None and kind != "bare" else letter


def _at_start(text: str, choices: Choices) -> tuple[int | None, bool]:
    """The option that a text begins with, and if its first line says nothing else."""
    line = first_line(text)
    key = _key(line)
    token, rest, places = _token(_opened(line), choices)
    alone = key == token.casefold()
    if alone and token[:1].isnumeric() and LISTED.match(f"{text.lstrip()[len(line) :]}."):
        return None, False  # a list that says nothing
    if key in choices.keys and not (alone and token in LATIN and places):
        return choices.keys.index(key), True
    if alone and places:
        return _only(places), True
    if own := places & _own(rest, choices):
        return _only(own), _key(rest) in choices.keys
    # "1. First, ..." and "A, B and C are wrong" are reasoning.
    labelled = _stands_alone(rest, token) and rest.lstrip()[:1] not in ("", *",،、")
    if labelled and not (token.islower() or token[:1].isnumeric()):
        return _only(places), False
    return None, False


def _token(text: str, choices: Choices) -> tuple[str, str, set[int]]:
    """The letter or digit that a text begins with, what follows, and the places it may mean."""
    match = LETTER.match(text)
    if match is None:
        return "", text, set()
    return match[0], text[match.end() :], _places(match[0], choices)


def _places(token: str, choices: Choices) -> set[int]:
    """What a letter or digit may mean: two places if it looks like another letter."""
    if token[0].isnumeric():
        number = int("".join(str(unicodedata.digit(char)) for char in token[:3]))
        places = {number - 1} if choices.digits else set()
    else:
        places = {PLACES[token]} if token in PLACES else set()
        if token in LOOKS_LIKE and not (choices.cyrillic and places):
            places.add(PLACES[LOOKS_LIKE[token]])
    return {place for place in places if 0 <= place < len(choices.keys)}


def _own(rest: str, choices: Choices) -> set[int]:
    """The options whose text follows a letter: in "B: Paris", "B Paris"."""
    return set() if _in_word(rest[:1]) else set(_leading(_key(rest.partition("\n")[0]), choices))


def _named(line: str, choices: Choices) -> int | None:
    """The one option that a line names by letter or text; a denial names none."""
    if NEGATION.search(line):
        return None
    texts = {place for place in _occurring(_key(line), choices) if len(choices.keys[place]) > 1}
    words = {word for place in texts for word in choices.keys[place].split()}
    letters, articles = set(_pointed_at(line, choices)), set()
    for match in re.finditer(r"(?<![\w.'’&/+-])[A-J]", line):
        rest, place = line[match.end() :], PLACES[match[0]]
        if match[0].casefold() in words or place >= len(choices.keys):
            continue
        if _stands_alone(rest, match[0]) or (match[0] not in "AEI" and rest[:1].isspace()):
            letters.add(place)
        elif rest[:1].isspace():
            articles.add(place)
    # "A or B" names two, "A dog in Paris" one.
    return _only(texts | letters | (articles if letters else set()))


def _pointed_at(text: str, choices: Choices) -> list[int]:
    """Places of the letters in parentheses and after words for "option", in order."""
    found: list[int] = []
    for match in POINTED.finditer(text):
        bracketed, token = match["bracketed"], match["bracketed"] or match["option"]
        rest = text[match.end() :]
        free = token in LATIN and not _in_word(rest[:1])
        if bracketed or free or _stands_alone(rest, token):
            place = _only(_places(token, choices))
            found += [] if place is None else [place]
    return found


def _leading(line: str, choices: Choices) -> list[int]:
    """The options that a key begins with, the longest first."""
    keys = choices.keys
    whole = [i for i, key in enumerate(keys) if line.startswith(key) and _border(line, len(key))]
    return sorted((i for i in whole if keys[i]), key=lambda place: -len(keys[place]))


def _occurring(line: str, choices: Choices) -> set[int]:
    """The options whose text stands in a key, each where no longer one does."""
    found = set()
    for key in sorted(set(choices.keys) - {""}, key=len, reverse=True):
        at = line.find(key)
        while at >= 0:
            if _border(line, at) and _border(line, at + len(key)):
                found.add(choices.keys.index(key))
                line = f"{line[:at]}\n{line[at + len(key) :]}"
            at = line.find(key, at + 1)
    return found


def _border(text: str, at: int) -> bool:
    """Whether a word may begin or end at this place."""
    before, after = text[:at][-1:], text[at : at + 1]
    if unicodedata.category(after or " ")[0] == "M":
        return False
    beside = UNSPACED.match(before) or UNSPACED.match(after)
    return bool(beside) or not (_in_word(before) and _in_word(after))


def _in_word(char: str) -> bool:
    return bool(char) and (char.isalnum() or unicodedata.category(char)[0] == "M")


def _stands_alone(rest: str, token: str) -> bool:
    """Whether what follows a letter shows that it is no word and no part of one."""
    other_script = rest[:1].isalpha() and "LATIN" not in unicodedata.name(rest[0], "LATIN")
    if (token in LATIN and other_script) or rest.startswith(PREDICATES):
        return True  # "Bです"
    if re.match(r"['’]\w|[.,:]\d|[-‐]\w|[^\S\n]*[&/+%]", rest):
        return False  # "D'Artagnan", "3.5", "A-level", "A/B"
    return not _in_word(rest.lstrip(" \t")[:1])


def _ended(text: str, mark: Mark) -> bool:
    rest = text[mark.end :].lstrip()
    letter = LETTER.match(opened := _opened(rest))
    if mark.kind == "bare" or not rest:
        return False
    if letter and not letter[0].isnumeric() and LETTER_END.match(opened, letter.end()):
        return True
    return mark.kind == "colon" and SENTENCE.match(rest) is not None


def _opened(text: str) -> str:
    """A text without quotes, brackets, marks of lists and words for "option" before it."""
    return OPENING.sub("", text, count=1)


def _only(places: set[int]) -> int | None:
    return next(iter(places)) if len(places) == 1 else None
