"""Wording: the words of a prompt in one language, one file `CODE.yaml` for each.

The frame (colons, line breaks, the letters A, B, ...) is the same in every language and is not
here. What a task says in English is translated in `texts`, by its English text.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Formatter

from pydantic import BaseModel

from isogloss.errors import ConfigError, DataError
from isogloss.files import parse_yaml
from isogloss.tasks.sib200 import QUESTION, TOPICS

TEXTS = (QUESTION, *TOPICS)


class Wording(BaseModel, extra="forbid", frozen=True):
    """One file: the words before a colon, the instructions to reason, the texts of tasks.

    `reason_letter` and `reason_text` hold the placeholder {answer} once.
    """

    language: str
    passage: str
    question: str
    answer: str
    reason_letter: str
    reason_text: str
    reasoning: str
    texts: Mapping[str, str]


def languages() -> tuple[str, ...]:
    """Codes of the languages there is wording for, sorted."""
    return tuple(sorted(name.removesuffix(".yaml") for name in _texts()))


@cache
def wording(code: str) -> Wording:
    """The checked wording of a language.

    Raises ConfigError if there is none, also where a variety of the language has some: words of
    one variety in prompts of another would be a change that nobody asked for. Raises DataError if
    the file cannot be used.
    """
    if code not in languages():
        listed = ", ".join(languages())
        raise ConfigError(f"prompts have no wording in {code!r}; they have it in {listed}.")
    return parse(_texts()[f"{code}.yaml"], f"{code}.yaml")


def parse(text: str, file: str) -> Wording:
    """Read and check a file; DataError names the file and the field."""
    found = parse_yaml(text, file, Wording)
    if f"{found.language}.yaml" != file:
        raise DataError(f"{file}: language must be the file's name but is {found.language!r}.")
    _check_texts(found.texts, file)
    words = {name: value for name, value in found if isinstance(value, str)}
    shown = words | {f"texts {english!r}": value for english, value in found.texts.items()}
    for name, value in shown.items():
        if not value or value != value.strip() or len(value.splitlines()) > 1:
            raise DataError(f"{file}: {name} must be one line with no space around it: {value!r}.")
    for name in ("passage", "question", "answer", "reasoning"):
        if set(words[name]) & set(":："):
            raise DataError(
                f"{file}: {name} must not hold a colon, the frame adds it: {words[name]!r}."
            )
    for name in ("reason_letter", "reason_text"):
        _check_placeholder(words[name], f"{file}: {name}")
    return found


def digest() -> str:
    """The sha256 over names and contents of all files; it changes when any wording does."""
    whole = hashlib.sha256()
    for name, text in sorted(_texts().items()):
        whole.update(f"{name}\n{len(text)}\n{text}".encode())
    return whole.hexdigest()


@cache
def _texts() -> dict[str, str]:
    folder = files(__package__).iterdir()
    return {it.name: it.read_text(encoding="utf-8") for it in folder if it.name.endswith(".yaml")}


def _check_texts(texts: Mapping[str, str], file: str) -> None:
    for english in TEXTS:
        if english not in texts:
            raise DataError(f"{file}: texts has no {english!r}.")
    if odd := sorted(texts.keys() - set(TEXTS)):
        raise DataError(f"{file}: texts has {odd[0]!r}, which no task asks for.")
    if len(set(texts.values())) < len(texts):
        raise DataError(f"{file}: texts has one translation for two texts.")


def _check_placeholder(text: str, where: str) -> None:
    try:
        found = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise DataError(f"{where} has a brace that cannot be read: {error}.") from None
    if found != ["answer"]:
        raise DataError(
            f"{where} must hold {{answer}} once and no other placeholder but holds "
            f"{', '.join(f'{{{name}}}' for name in found) or 'none'}."
        )
