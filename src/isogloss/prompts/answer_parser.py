"""The answer parser: which of an item's options a generated text chooses.

Prompts list options with labels: A, B, ..., digits, or letters of another script. A text may answer
with that label, with the option's text, or with a digit or a letter of its own script, in the order
in which that script enumerates. The rules, which say "letter" for a label, are tried in this order,
and the first that finds an option decides:

1. Answer markers, from the last to the first. A marker is the answer word of the prompt or English
   "answer", with or without a colon or a word for "is". Directly after a marker: the letter (in
   either case), a digit or an option's text. Otherwise, after a colon or "is", the only letter or
   option that the rest of the line names. A marker with a colon whose line cannot be parsed decides
   too: there is no answer.
2. The start of the text: a letter before punctuation, or a first line that is only a letter, a
   digit or an option.
3. The last letter in parentheses or after a word for "option".
4. The only option whose text occurs in the last line.

What a block of reasoning says (<think>, see `reasoning_blocks`) is removed first, and a text that
ends in such a block has no answer. A text that was cut off at the token limit answers only by rule
1, or with a whole first line: what it happened to name last was not its answer.

Options that a text lists one after another with their labels ("A: Paris, B: Rome") are no answer
and are removed too.

Base models continue with a next question after their answer. That part is removed first: after a
first line that is an answer, and after an answer with a colon, from the next empty line or line
such as "Q:" or "Câu hỏi:"; after other answers only from a line that begins with one word and a
colon. Further rules:

- Of more than 64 markers only the first and the last 32 count.
- Precedence: option texts of two or more characters, then the letters that the prompt shows, then
  shorter option texts, then digits, lower-case letters and letters of other scripts. Digits are not
  positions if any option contains a digit.
- A letter must be followed by punctuation, the end of the line or its option's text. After a
  marker, "B because" counts as well, but not "A dog", "I think" (A, E and I are words) or "B or C".
- A letter that looks like a Latin one is ambiguous: Cyrillic В is third in its alphabet and looks
  like B. If both are options there is no answer, unless the option's text follows, or a letter that
  only Cyrillic has (Б, Г, Д) occurs on its own elsewhere in the text, which shows a Cyrillic list.
- Arabic letters are in abjad order (ا ب ج د ه و ز ح ط ي); Persian پ is third. ت and ث are ignored:
  they are third and fourth in Arabic lists in alphabetical order, but ت is fourth in Persian ones.

If the labels are digits, numbers that are quantities, years or steps are no labels. Neither "2
people" nor "2, 3", "2.5", "2 °C", "-2", "(2)" without a marker, or "2. Then" answers, and beside
the text of another option "2 people in Paris" is unclear; "2 because" answers. The text of an
option that is itself a label, such as 2, names no option. If they are letters of another script,
other letters of that script mean nothing, and a label before a word is not one: Russian "В" is
"in".
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

from isogloss.errors import DataError
from isogloss.prompts.answer_patterns import (
    COLON,
    IS,
    IS_ATTACHED,
    LATIN,
    LETTER_END,
    LISTED,
    NEGATION,
    SENTENCE,
)
from isogloss.prompts.answer_symbols import (
    Options,
    Symbols,
    continues,
    is_shown,
    leading_symbol,
    options_by_label,
    options_of,
    pointed_options,
    positions_of,
    single,
    stands_alone,
    symbols_of,
    without_opening,
)
from isogloss.prompts.reasoning_blocks import answer_part
from isogloss.prompts.text_folding import (
    SURROUNDING,
    UNSPACED,
    comparison_key,
    first_line,
    fold,
    in_word,
    is_word_boundary,
)

ENGLISH = ("Answer",)
PARSER_VERSION = "6"  # part of every evaluation's fingerprint: raise it with any change of rules
MOST_OPTIONS = 10
# A model that repeats "Answer:" without end makes thousands, each followed by all the others: the
# time would grow with the square of their number. The first and the last ones decide.
MOST_MARKERS = 64
LIST_MARKS = r"[\s*_(\[•·-]+\Z"  # before the label of an option

MarkerKind = Literal["colon", "is", "bare"]


class Marker(NamedTuple):
    """An answer marker: its start, where an answer may begin after it, and what it ends with."""

    start: int
    end: int
    kind: MarkerKind


def parse_answer(
    text: str,
    options: Sequence[str],
    answer_words: Sequence[str] = ENGLISH,
    *,
    labels: Sequence[str] = LATIN,
    ended: bool = True,
    opened: str = "",
) -> int | None:
    """Return the index of the option that a text chooses, None if there is none or it is unclear.

    `text` is what a model generated after "Answer:", or reasoning that ends in an answer. Options
    are compared without case, points, spaces or surrounding punctuation; of equal options the first
    is returned. `labels` are those that the prompt shows or could show, in order: letters, digits,
    or letters of another script. `ended` is False for a text that was cut off at the token limit,
    and `opened` is the end of its prompt, which may have opened a block of reasoning. The rules are
    listed in the module's docstring. Raises DataError unless there are two to ten options.
    """
    if not 2 <= len(options) <= MOST_OPTIONS:
        raise DataError(
            f"parsing an answer needs 2 to {MOST_OPTIONS} options but got {len(options)}."
        )
    start = answer_part(text, opened)
    if start is None:
        return None
    folded = fold(text[start:]).text.strip()
    parsed_options = options_of(options, symbols_of(tuple(labels)), folded)
    folded = _without_lists(folded, parsed_options)
    at_start, whole_line = _option_at_start(folded, parsed_options)
    folded = _without_next_question(folded, at_start, whole_line, answer_words, parsed_options)
    for marker in reversed(_markers(folded, answer_words)):
        rest = folded[marker.end :]
        index = _option_after_marker(rest, marker.kind, parsed_options)
        if index is not None or (marker.kind == "colon" and comparison_key(rest)):
            return index
    if at_start is not None and (ended or whole_line):
        return at_start
    if not ended:
        return None
    if pointed := pointed_options(folded, parsed_options):
        return pointed[-1]
    last_line = folded.rstrip().rpartition("\n")[2]
    return single(_options_within(comparison_key(last_line), parsed_options))


def answer_start(
    text: str,
    answer_words: Sequence[str] = ENGLISH,
    *,
    labels: Sequence[str] = LATIN,
    opened: str = "",
) -> int | None:
    """Return where the last answer marker with a colon or "is" begins, None if there is none.

    The reasoning precedes it. Markers in a next question after a complete answer do not count, nor
    do those in a block of reasoning; `labels` and `opened` are those of `parse_answer`.
    """
    start = answer_part(text, opened)
    if start is None:
        return None
    folded, origins = fold(text[start:])
    markers = [marker for marker in _markers(folded, answer_words) if marker.kind != "bare"]
    symbols = symbols_of(tuple(labels))
    answered = next((marker for marker in markers if _is_answered(folded, marker, symbols)), None)
    end = len(folded)
    if answered is not None:
        end = _next_question(folded, answered, answer_words, symbols)
    begins = [start + origins[marker.start] for marker in markers if marker.start < end]
    return max(begins, default=None)


def is_complete(
    text: str,
    answer_words: Sequence[str] = ENGLISH,
    *,
    labels: Sequence[str] = LATIN,
    opened: str = "",
) -> bool:
    """Whether a marker is followed by a complete answer, so that generation can stop.

    A marker in a block of reasoning is not; `labels` and `opened` are those of `parse_answer`.

    After a colon, an answer is any text up to a line break or the end of a sentence; after "answer
    is" only a label: "The answer is clear." is not complete. A full stop after a digit or a short
    word may be a decimal point or an abbreviation, so it does not complete an answer.
    """
    start = answer_part(text, opened)
    if start is None:
        return False
    folded = fold(text[start:]).text
    symbols = symbols_of(tuple(labels))
    return any(_is_answered(folded, marker, symbols) for marker in _markers(folded, answer_words))


@cache
def marker_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words of which a folded text with a marker has at least one, the longest first."""
    return tuple(sorted({fold(word).text for word in (*words, "answer")}, key=len, reverse=True))


@cache
def _marker_pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    def bounded(word: str) -> str:
        # Scripts that attach prefixes to words or write no spaces show no boundary.
        unbounded = UNSPACED.match(word) or "\u0590" < word[0] < "\u0700"
        return re.escape(word) if unbounded else rf"(?<![^\W\d_]){re.escape(word)}(?![^\W\d_])"

    return re.compile(
        r"(?:[*_#]{1,4} ?)?(?:the )?(?:final |correct |right |best )*"
        rf"(?:{'|'.join(map(bounded, marker_words(words)))})(?: choice| option)?[*_`]*"
        rf"(?P<is>\s*(?:{IS_ATTACHED})|\s+(?:{IS})(?!\w))?[*_`]*"
        rf"(?P<colon>[^\S\n]*{COLON}(?![\"”»」'](?:\W|$)))?[*_`]*",
        re.IGNORECASE,
    )


def _markers(text: str, words: Sequence[str]) -> list[Marker]:
    markers = []
    for match in _marker_pattern(tuple(words)).finditer(text):
        kind: MarkerKind = "colon" if match["colon"] else "is" if match["is"] else "bare"
        markers.append(Marker(match.start(), match.end(), kind))
    if len(markers) > MOST_MARKERS:
        return [*markers[: MOST_MARKERS // 2], *markers[-MOST_MARKERS // 2 :]]
    return markers


def _without_lists(text: str, options: Options) -> str:
    """Remove two or more options with their labels that follow one another without other words."""
    runs: list[list[tuple[int, int, int]]] = []  # start, end and option of each entry
    for match in options.symbols.letter.finditer(text):
        start, rest = match.start(), text[match.end() :]
        if in_word(text[:start][-1:]) or (runs and start < runs[-1][-1][1]):
            continue
        index = single(positions_of(match[0], options) & _options_labelled(rest, options))
        if index is None:
            continue
        words = r"\s+".join(map(re.escape, options.keys[index].split()))
        entry = re.match(rf"\W*?{words}", rest, re.IGNORECASE)
        if entry is None:
            continue
        follows = runs and not any(map(in_word, text[runs[-1][-1][1] : start]))
        if not follows:
            runs.append([])
        runs[-1].append((start, match.end() + entry.end(), index))
    for run in reversed(runs):
        if len({index for _, _, index in run}) > 1:
            before, after = text[: run[0][0]], text[run[-1][1] :]
            text = f"{re.sub(LIST_MARKS, '', before)}\n{after}"
    return text.strip()


def _without_next_question(
    text: str, at_start: int | None, whole_line: bool, words: Sequence[str], options: Options
) -> str:
    """Remove what follows an answer at the start of the text, and the first answer of a marker."""
    if at_start is not None:
        answer = Marker(0, 0, "colon" if whole_line else "is")
        text = text[: _next_question(text, answer, words, options.symbols)]
    for marker in _markers(text, words):
        if _option_after_marker(text[marker.end :], marker.kind, options) is not None:
            return text[: _next_question(text, marker, words, options.symbols)]
    return text


def _next_question(text: str, marker: Marker, words: Sequence[str], symbols: Symbols) -> int:
    """Return where a next question begins after the line of an answer, or the end of the text."""
    start = len(text) - len(text[marker.end :].lstrip())
    shown = "|".join(map(re.escape, symbols.shown))
    label = rf"\s*[*_#]*(?!(?:{shown})\b)[^\W\d_][^\n:.,]{{0,24}}{COLON}"
    empty_line = r"[^\S\n]*\n|" if marker.kind == "colon" else ""
    most_spaces = 1 if marker.kind == "colon" else 0  # "Câu hỏi:"; but "It says:" may be reasoning
    for match in re.compile(rf"\n(?:{empty_line}{label})").finditer(text, start):
        is_marker = _marker_pattern(tuple(words)).search(match[0])
        if match[0].strip().count(" ") <= most_spaces and not is_marker:
            return match.start()
    return len(text)


def _option_after_marker(text: str, kind: MarkerKind, options: Options) -> int | None:
    """Return the option that the text after a marker begins with.

    After a marker that is not bare, it may also be the only option that the line names.
    """
    same_line, _, below = text.partition("\n")
    ends_line = not same_line.strip(SURROUNDING)
    if kind == "is" or (kind == "bare" and not ends_line):
        text = same_line  # "The answer is" and the number of the next line are not an answer
    symbols, opened = options.symbols, without_opening(text)
    lines = (comparison_key(first_line(text)), comparison_key(first_line(opened)))
    by_text = [index for line in lines for index in _options_at_start_of(line, options)]
    symbol, rest, positions = leading_symbol(text, options)
    labelled = positions & _options_labelled(rest, options)
    if ends_line and LISTED.match(below) and not labelled:
        return None
    # "B because", "is A because", but not "A dog" or "B or C".
    is_word = symbol in "AEI" if kind == "colon" else symbol == "I"
    may_continue = kind != "bare" and not is_word and continues(rest, symbol, symbols)
    alone = may_continue or stands_alone(rest, symbol, symbols)
    by_letter = single(labelled or (positions if alone else set()))
    if long_texts := [index for index in by_text if len(options.keys[index]) > 1]:
        return long_texts[0]
    if by_text and (not is_shown(symbol, options) or by_letter is None):
        return by_text[0]
    if by_letter is None and kind != "bare":
        return _option_named(first_line(text), options)
    return by_letter


def _option_at_start(text: str, options: Options) -> tuple[int | None, bool]:
    """Return the option that a text begins with, and whether its first line says nothing else."""
    line = first_line(text)
    key = comparison_key(line)
    symbol, rest, positions = leading_symbol(line, options)
    alone = key == symbol.casefold()
    if alone and symbol[:1].isnumeric() and LISTED.match(f"{text.lstrip()[len(line) :]}."):
        return None, False  # a list of numbers without an answer
    if key in options.keys and not (alone and is_shown(symbol, options) and positions):
        return options.keys.index(key), True
    if alone and positions:
        return single(positions), True
    if labelled := positions & _options_labelled(rest, options):
        return single(labelled), comparison_key(rest) in options.keys
    # "1. First, ..." and "A, B and C are wrong" are reasoning.
    alone = stands_alone(rest, symbol, options.symbols)
    is_label = alone and rest.lstrip()[:1] not in ("", *",،、")
    is_small = symbol.islower() and not is_shown(symbol, options)  # Georgian has only small letters
    if is_label and not (is_small or symbol[:1].isnumeric()):
        return single(positions), False
    return None, False


def _options_labelled(rest: str, options: Options) -> set[int]:
    """Return the options whose text follows a letter, as in "B: Paris" and "B Paris"."""
    if in_word(rest[:1]):
        return set()
    return set(_options_at_start_of(comparison_key(rest.partition("\n")[0]), options))


def _option_named(line: str, options: Options) -> int | None:
    """Return the only option that a line names by letter or text; None if the line negates."""
    if NEGATION.search(line):
        return None
    within = _options_within(comparison_key(line), options)
    by_text = {index for index in within if len(options.keys[index]) > 1}
    words = {word for index in by_text for word in options.keys[index].split()}
    return single(by_text | options_by_label(line, options, words))


def _options_at_start_of(line_key: str, options: Options) -> list[int]:
    """Return the options that a line begins with, the longest first."""
    indices = [
        index
        for index, key in enumerate(options.keys)
        if key and line_key.startswith(key) and is_word_boundary(line_key, len(key))
    ]
    return sorted(indices, key=lambda index: -len(options.keys[index]))


def _options_within(line_key: str, options: Options) -> set[int]:
    """Return the options whose text occurs in a line outside the text of a longer option."""
    indices = set()
    for key in sorted(set(options.keys) - {""}, key=len, reverse=True):
        start = line_key.find(key)
        while start >= 0:
            end = start + len(key)
            if is_word_boundary(line_key, start) and is_word_boundary(line_key, end):
                indices.add(options.keys.index(key))
                line_key = f"{line_key[:start]}\n{line_key[end:]}"
            start = line_key.find(key, start + 1)
    return indices


def _is_answered(text: str, marker: Marker, symbols: Symbols) -> bool:
    """Whether a complete answer follows a marker; see `is_complete`."""
    rest = text[marker.end :].lstrip()
    if marker.kind == "bare" or not rest:
        return False
    opened = without_opening(rest)
    letter = symbols.letter.match(opened)
    end = LETTER_END.match(opened, letter.end()) if letter else None
    if letter and end:
        # A full stop after a digit may be a decimal point until something follows.
        shown = symbols.digits and letter[0] in symbols.shown and end.end() < len(opened)
        if shown or not letter[0].isnumeric():
            return True
    return marker.kind == "colon" and SENTENCE.match(rest) is not None
