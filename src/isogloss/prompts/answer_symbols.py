"""Symbols by which a text names an option: the labels of the prompt, other letters, and digits."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from isogloss.prompts.answer_patterns import (
    LATIN,
    LETTER,
    LOOKS_LIKE,
    ONLY_CYRILLIC,
    OPENING,
    OPTION,
    OPTION_ATTACHED,
    POINTED,
    POSITIONS,
    PREDICATES,
)
from isogloss.prompts.text_folding import comparison_key, fold, in_word

# Forms of one letter that keyboards and languages exchange.
_FORMS = ("ا أ إ آ ألف الف", "ه ہ ھ", "ي ی")
# What follows a number that is a quantity or the first of several, and not a label.
_QUANTITY = re.compile(r"[^\S\n]*(?:[°€£¥₪₹₽฿‰×+<>=≈~^]|[,;،、]\s*\d)")
_NUMBER = re.compile(r"\A(?:number|digit)\s+", re.IGNORECASE)
_BRACKETED_DIGIT = re.compile(r"(?<!\w)[(\[]\s*(\d)\s*[)\]]")


class Symbols(NamedTuple):
    """The labels that a prompt shows, in order, and the patterns that find symbols in a text.

    `shown` are the labels as they are written; `positions` also has their other forms. `native` is
    whether they are of a script other than Latin, `digits` whether they are digits.
    """

    shown: tuple[str, ...]
    positions: Mapping[str, int]
    letter: re.Pattern[str]
    pointed: re.Pattern[str]
    native: bool = False
    digits: bool = False


class Options(NamedTuple):
    """The options as they are compared, and how symbols of the text are interpreted."""

    keys: tuple[str, ...]
    digits_are_positions: bool
    cyrillic_list: bool
    symbols: Symbols


@cache
def symbols_of(labels: tuple[str, ...]) -> Symbols:
    """Return the symbols of a prompt that shows these labels: Latin letters, digits or others."""
    if labels[0] == LATIN[0]:
        return Symbols(LATIN, dict(zip(LATIN, range(len(LATIN)), strict=True)), LETTER, POINTED)
    if labels[0].isdigit():
        positions = {label: position for position, label in enumerate(labels)}
        return Symbols(labels, positions, LETTER, POINTED, digits=True)
    shown = tuple(fold(label).text for label in labels)
    positions = {}
    for position, label in enumerate(shown):
        same = next((form.split() for form in _FORMS if label in form.split()), ())
        positions |= dict.fromkeys((*same, label, label.lower()), position)
    known = {*positions, *POSITIONS, *LOOKS_LIKE}
    letters = "|".join(sorted(known, key=lambda text: (-len(text), text)))
    letter = rf"{letters}|\d+|[፩-፱]"
    option = rf"(?:(?<![^\W\d_])(?:{OPTION})(?![^\W\d_])|{OPTION_ATTACHED})"
    pointed = re.compile(
        rf"(?<!\w)[(\[]\s*(?P<bracketed>{letters})\s*[)\]]"
        rf"|(?i:{option})[\s:*_\"'“「(]*(?P<option>{letter})"
    )
    return Symbols(shown, positions, re.compile(letter), pointed, native=True)


def options_of(options: Sequence[str], symbols: Symbols, folded: str) -> Options:
    """Return the options, and how the symbols of a folded text are interpreted.

    The text of an option that is itself a label of the prompt, such as a number, names no option.
    """
    keys = tuple(comparison_key(fold(option).text) for option in options)
    has_digits = any(char.isdigit() for key in keys for char in key)
    cyrillic_list = bool(ONLY_CYRILLIC.search(folded))
    if not (symbols.native or symbols.digits):
        return Options(keys, not has_digits, cyrillic_list, symbols)
    labels = {label.casefold() for label in symbols.shown[: len(keys)]}
    keys = tuple("\0" if _plain_digits(key) in labels else key for key in keys)
    return Options(keys, symbols.digits or not has_digits, cyrillic_list, symbols)


def without_opening(text: str) -> str:
    """Remove leading quotes, brackets, list marks and words for "option"."""
    return OPENING.sub("", text, count=1)


def leading_symbol(text: str, options: Options) -> tuple[str, str, set[int]]:
    """Return the symbol that begins a text, what follows, and the options it may mean.

    Quotes, brackets and words for "option" before it are left out.
    """
    opened = without_opening(text)
    if options.symbols.digits:
        opened = _NUMBER.sub("", opened)  # "number 2"
    match = options.symbols.letter.match(opened)
    if match is None:
        return "", opened, set()
    is_negative = text.removesuffix(opened).endswith("-")
    if options.symbols.digits and match[0][0].isnumeric() and is_negative:
        return "", opened, set()
    return match[0], opened[match.end() :], positions_of(match[0], options)


def positions_of(symbol: str, options: Options) -> set[int]:
    """Return the options that a symbol may mean: two if it looks like another letter."""
    symbols = options.symbols
    if symbol[0].isnumeric():
        number = int("".join(str(unicodedata.digit(char)) for char in symbol[:3]))
        is_label = options.digits_are_positions and not (symbols.digits and len(symbol) > 1)
        positions = {number - 1} if is_label else set()
    elif symbols.native:
        positions = _native_positions(symbol, symbols)
    else:
        positions = {POSITIONS[symbol]} if symbol in POSITIONS else set()
        if symbol in LOOKS_LIKE and not (options.cyrillic_list and positions):
            positions.add(POSITIONS[LOOKS_LIKE[symbol]])
    return {position for position in positions if 0 <= position < len(options.keys)}


def is_shown(symbol: str, options: Options) -> bool:
    """Whether a symbol is a label as the prompt shows it; digits are, in any script."""
    return _plain_digits(symbol) in options.symbols.shown


def stands_alone(rest: str, symbol: str, symbols: Symbols) -> bool:
    """Whether what follows a symbol shows that it is neither a word nor part of one."""
    other_script = rest[:1].isalpha() and "LATIN" not in unicodedata.name(rest[0], "LATIN")
    if (symbol in LATIN and other_script) or rest.startswith(PREDICATES):
        return True  # "Bです"
    if re.match(r"['’]\w|[.,:]\d|[-‐]\w|[^\S\n]*[&/+%]", rest):
        return False  # "D'Artagnan", "3.5", "A-level", "A/B"
    if symbols.digits and symbol[:1].isnumeric() and _QUANTITY.match(rest):
        return False  # "2 °C", "2, 3"
    return not in_word(rest.lstrip(" \t")[:1])


def continues(rest: str, symbol: str, symbols: Symbols) -> bool:
    """Whether a sentence follows a label, as in "B because", but not in "B or C" or "2 dogs"."""
    if symbols.digits:
        return symbol[:1].isnumeric() and bool(re.match(r"\s+(?:because|since)\b", rest))
    if symbols.native or symbol not in LATIN:
        return False
    return re.match(r"\s+(?!\w+\s+[A-J]\b)", rest) is not None


def pointed_options(text: str, options: Options) -> list[int]:
    """Return the options of letters in parentheses and after words for "option", in order.

    Digits in parentheses are not among them: they number the steps of a reasoning.
    """
    indices: list[int] = []
    for match in options.symbols.pointed.finditer(text):
        bracketed, symbol = match["bracketed"], match["bracketed"] or match["option"]
        rest = text[match.end() :]
        bounded = is_shown(symbol, options) and not in_word(rest[:1])
        if options.symbols.digits:
            bounded = bounded and re.match(r"[.,:/-]\w", rest) is None
        if bracketed or bounded or stands_alone(rest, symbol, options.symbols):
            index = single(positions_of(symbol, options))
            indices += [] if index is None else [index]
    return indices


def options_by_label(line: str, options: Options, words: set[str]) -> set[int]:
    """Return the options whose labels a line after an answer marker names outside of `words`."""
    named = set(pointed_options(line, options))
    if options.symbols.digits:
        for match in _BRACKETED_DIGIT.finditer(line):
            named |= positions_of(match[1], options)
        symbol, _, positions = leading_symbol(line, options)
        # "2 people in Paris" may mean the second option or a number.
        return named | (positions if symbol[:1].isnumeric() and (named or words) else set())
    articles: set[int] = set()
    shown = "|".join(map(re.escape, options.symbols.shown))
    for match in re.finditer(rf"(?<![\w.'’&/+-])(?:{shown})", line):
        rest, index = line[match.end() :], options.symbols.positions[match[0]]
        if match[0].casefold() in words or index >= len(options.keys):
            continue
        may_be_word = options.symbols.native or match[0] in "AEI"
        if stands_alone(rest, match[0], options.symbols) or (
            not may_be_word and rest[:1].isspace()
        ):
            named.add(index)
        elif rest[:1].isspace():
            articles.add(index)
    # "A or B" names two options, "A dog in Paris" one.
    return named | (articles if named else set())


def single(indices: set[int]) -> int | None:
    """Return the only index, None if there is none or several."""
    return next(iter(indices)) if len(indices) == 1 else None


def _plain_digits(symbol: str) -> str:
    """Return a digit of any script as that of ASCII, and any other text as it is."""
    is_digit = len(symbol) == 1 and symbol.isdigit()
    return str(unicodedata.digit(symbol)) if is_digit else symbol


def _native_positions(symbol: str, symbols: Symbols) -> set[int]:
    """Return what a letter may mean beside native labels: a label, or a Latin letter.

    Other letters of the script, which the prompt does not show, mean nothing.
    """
    if symbol in symbols.positions:
        return {symbols.positions[symbol]}
    if symbol.upper() not in LATIN:
        return set()
    alike = {symbols.positions.get(own) for own, latin in LOOKS_LIKE.items() if latin == symbol}
    return {POSITIONS[symbol], *(position for position in alike if position is not None)}
