"""Words that stand for something else than themselves: none, auto, all and file.

The command line, MLproject and study files write None as a word. Each parameter has exactly one,
declared with `NoneWord`; where another of the words would be taken for a name, `text` rejects it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import category

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

WORDS = ("none", "auto", "all", "file")
LONGEST_TEXT = 1000  # characters of a path or a URI
LONGEST_NAME = 200  # of a study, an experiment or a registered model; databases allow 256


@dataclass(frozen=True)
class NoneWord:
    """Annotation of an optional field: the word that stands for None."""

    word: str

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Turn the word into None before the field's own type is checked."""
        return core_schema.no_info_before_validator_function(
            lambda value: None if value == self.word else value, handler(source)
        )


def none_word(field: FieldInfo) -> str | None:
    """The word that stands for None in a field; None for a field that is not optional."""
    return next((entry.word for entry in field.metadata if isinstance(entry, NoneWord)), None)


def text(expected: str, *literal: str) -> AfterValidator:
    """Annotation of a string: rejects blanks, WORDS apart from those in `literal`, and long ones.

    `expected` completes the message "NAME should be ...".
    """
    accepted = " or ".join([expected, *(f"'{word}'" for word in literal)])

    def check(value: str) -> str:
        if not value.strip() or (value in WORDS and value not in literal):
            raise PydanticCustomError(
                "reserved_word", "Input should be {accepted}", {"accepted": accepted}
            )
        return _not_longer(value, LONGEST_TEXT)

    return AfterValidator(check)


def one_line() -> AfterValidator:
    """Annotation of a name: rejects line ends and other control characters, strips its ends.

    Names are written to tags one a line, and read from lists without the spaces around them.
    """

    def check(value: str) -> str:
        if any(category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value.strip()):
            raise PydanticCustomError("control_character", "Input should be one line of text")
        return _not_longer(value.strip(), LONGEST_NAME)

    return AfterValidator(check)


def _not_longer(value: str, longest: int) -> str:
    if len(value) > longest:
        raise PydanticCustomError(
            "too_long", "Input should have at most {longest} characters", {"longest": longest}
        )
    return value


def registered_name() -> AfterValidator:
    """Annotation of a registered model's name, as MLflow accepts it."""

    def check(value: str) -> str:
        if not is_registered_name(value):
            raise PydanticCustomError(
                "registered_name",
                "Input should be a name without '/' and ':' that is not '.' and does not begin "
                "with '..'",
            )
        return value

    return AfterValidator(check)


def is_registered_name(name: str) -> bool:
    """Whether MLflow accepts the name of a registered model."""
    return not set(name) & set("/:") and name != "." and not name.startswith("..")


def alias_name() -> AfterValidator:
    """Annotation of an alias of a registered model, as MLflow accepts it."""

    def check(value: str) -> str:
        reserved = value.lower() == "latest" or re.fullmatch(r"[vV]\d+", value)
        if reserved or not re.fullmatch(r"[\w-]+", value):
            raise PydanticCustomError(
                "alias_name",
                "Input should be an alias of letters, digits, '_' and '-', other than latest and "
                "v1",
            )
        return value

    return AfterValidator(check)


def separated() -> BeforeValidator:
    """Annotation of a tuple: reads a string as a list; a number is one item; rejects no items.

    The string is a JSON list, for items that contain commas, or is split at commas.
    """
    return BeforeValidator(_split)


def is_separated(field: FieldInfo) -> bool:
    """Whether a field has several values, which the command line takes as a repeated option too."""
    return any(
        isinstance(entry, BeforeValidator) and entry.func is _split for entry in field.metadata
    )


def joined(values: Sequence[object]) -> str:
    """A list as `separated` reads it: a JSON list if one of the values contains a comma."""
    texts = [str(value) for value in values]
    if all(text and text == text.strip() and not set(",[") & set(text) for text in texts):
        return ",".join(texts)
    return json.dumps(texts, ensure_ascii=False)


def _split(value: object) -> object:
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = tuple(json.loads(value))
        except (ValueError, RecursionError) as error:
            raise PydanticCustomError(
                "no_list", 'Input should be a JSON list such as ["a,b","c"], or separated by commas'
            ) from error
    elif isinstance(value, str):
        value = tuple(part.strip() for part in value.split(",") if part.strip())
    if value in ((), []):
        raise PydanticCustomError("no_items", "Input should have at least one value")
    return (value,) if isinstance(value, int) else value
