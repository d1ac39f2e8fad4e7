"""Wording of prompts per language, one file `CODE.yaml` each.

The frame (colons, line breaks, the order of lines) is the same in every language and not part of
the wording; native_labels.yaml has the labels of options. `texts` translates the English texts of
tasks; its keys are these texts.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from string import Formatter

from pydantic import BaseModel

from isogloss.errors import ConfigError, DataError
from isogloss.tasks.sib200 import QUESTION, TOPICS
from isogloss.types import LanguageCode
from isogloss.yaml_files import parse_yaml

TEXTS = (QUESTION, *TOPICS)


class Wording(BaseModel, extra="forbid", frozen=True):
    """One file: the words before colons, the instructions to reason, the texts of tasks.

    `reason_letter`, `reason_digit` and `reason_text` contain the placeholder {answer} once.
    `reason_digit` is None where nobody has translated it.
    """

    language: str
    passage: str
    question: str
    answer: str
    reason_letter: str
    reason_digit: str | None = None
    reason_text: str
    reasoning: str
    texts: Mapping[str, str]


def languages() -> tuple[LanguageCode, ...]:
    """Return the codes of the languages that have wording, sorted."""
    return tuple(sorted(name.removesuffix(".yaml") for name in _texts()))


@cache
def wording(code: LanguageCode) -> Wording:
    """Return the validated wording of a language.

    Raises ConfigError if there is none, even if another variety of the language has one: prompts
    must not mix varieties silently. Raises DataError if the file is invalid.
    """
    if code not in languages():
        available = ", ".join(languages())
        raise ConfigError(f"prompts have no wording in {code!r}; expected one of {available}.")
    return parse(_texts()[f"{code}.yaml"], f"{code}.yaml")


def parse(text: str, file: str) -> Wording:
    """Parse and validate a file. Raises DataError that names the file and the field."""
    parsed = parse_yaml(text, file, Wording)
    if f"{parsed.language}.yaml" != file:
        raise DataError(f"{file}: language must be the file's name but is {parsed.language!r}.")
    _check_texts(parsed.texts, file)
    words = {name: value for name, value in parsed if isinstance(value, str)}
    lines = words | {f"texts {english!r}": value for english, value in parsed.texts.items()}
    for name, value in lines.items():
        if not value or value != value.strip() or len(value.splitlines()) > 1:
            raise DataError(
                f"{file}: {name} must be one line without surrounding spaces but is {value!r}."
            )
    for name in ("passage", "question", "answer", "reasoning"):
        if set(words[name]) & set(":："):
            raise DataError(
                f"{file}: {name} must not contain a colon, which the frame adds, but is "
                f"{words[name]!r}."
            )
    for name in {"reason_letter", "reason_digit", "reason_text"} & words.keys():
        _check_placeholder(words[name], f"{file}: {name}")
    return parsed


@cache
def _texts() -> dict[str, str]:
    folder = files(__package__).iterdir()
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in folder
        if PurePath(path.name).match("???_????.yaml")
    }


def _check_texts(texts: Mapping[str, str], file: str) -> None:
    for english in TEXTS:
        if english not in texts:
            raise DataError(f"{file}: texts lacks {english!r}.")
    if unknown := sorted(texts.keys() - set(TEXTS)):
        raise DataError(f"{file}: texts has {unknown[0]!r}, which no task uses.")
    if len(set(texts.values())) < len(texts):
        raise DataError(f"{file}: two entries of texts have the same translation.")


def _check_placeholder(text: str, where: str) -> None:
    try:
        placeholders = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise DataError(f"{where} has an unmatched brace: {error}.") from None
    if placeholders != ["answer"]:
        raise DataError(
            f"{where} must contain {{answer}} once and no other placeholder but contains "
            f"{', '.join(f'{{{name}}}' for name in placeholders) or 'none'}."
        )
