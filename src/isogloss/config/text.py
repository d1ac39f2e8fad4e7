"""Configurations as text: command lines, and errors in plain sentences."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from shlex import quote
from typing import Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from isogloss.config.engine import Engine, as_yaml
from isogloss.config.entry_points import ENTRY_POINTS
from isogloss.config.study import CellConfig, StudyConfig
from isogloss.config.words import WORDS, joined, none_word
from isogloss.formatting import closest, did_you_mean, shortened, without_password
from isogloss.yaml_files import fields_of, section_class_of

LineOf = Callable[[Sequence[str | int]], int | None]
CLASSES: tuple[type[BaseModel], ...] = (*ENTRY_POINTS.values(), CellConfig, StudyConfig)
NONE_AS = {
    name: word
    for config_class in CLASSES
    for name, field in config_class.model_fields.items()
    if (word := none_word(field))
}
FRACTIONS = ("margin", "effect", "spread", "seed_spread", "branch_spread", "gain", "discordant")
# pydantic's types of errors whose messages speak of Python.
PLAIN = {
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "int_from_float": "should be an integer",
    "int_parsing": "should be an integer",
    "int_parsing_size": "should be an integer that is not as large",
    "int_type": "should be an integer",
    "model_type": "should be a mapping of parameters",
    "string_too_short": "should not be empty",
    "string_type": "should be text",
    "tuple_type": "should be a list, or text with commas",
}
MOST_LINES = 10  # of one message
CHOICES = ("enum", "literal_error", "reserved_word")  # messages that list what is accepted
# Messages about a mapping as a whole, which name what is wrong in it.
WHOLE = ("engine_incomplete", "engine_with_too_much", "engine_without_server", "command_incomplete")


def as_text(name: str, value: object) -> str:
    """A parameter as the command line, MLproject and MLflow write it."""
    if value is None:
        return NONE_AS.get(name, "auto")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return joined(value)
    if isinstance(value, Engine) or (name == "engine" and isinstance(value, dict)):
        return as_yaml(Engine.model_validate(value))
    return str(value)


def command_line(entry_point: str, config: BaseModel) -> str:
    """The `mlflow run` command with every parameter that differs from its default."""
    words = [f"mlflow run . -e {entry_point} --env-manager local"]
    for name, field in type(config).model_fields.items():
        value = as_text(name, getattr(config, name))
        if field.is_required() or value != as_text(name, field.default):
            words.append(f"-P {quote(f'{name}={value}')}")
    return " ".join(words)


def explain(
    error: ValidationError, config_class: type[BaseModel], line_of: LineOf | None = None
) -> str:
    """One line per wrong parameter: its name, what is accepted, the value, and what may be meant.

    `line_of` tells the line of the file that has the parameter, if there is a file.
    """
    entries = error.errors()
    numbered = [((line_of(entry["loc"]) if line_of else None), entry) for entry in entries]
    numbered.sort(key=lambda pair: pair[0] or 0)  # pydantic names unknown parameters last
    lines = []
    for line, entry in numbered[:MOST_LINES]:
        place = "" if line is None else f"line {line}: "
        lines.append(place + _sentence(entry, config_class))
    if len(entries) > MOST_LINES:
        lines.append(f"and {len(entries) - MOST_LINES:,} more such faults.")
    return "\n".join(lines)


def _sentence(entry: ErrorDetails, config_class: type[BaseModel]) -> str:
    if not entry["loc"]:  # a check of several parameters together
        return f"{entry['msg']}."
    names = _field_names(entry, config_class)
    positions = [part for part in entry["loc"] if isinstance(part, int)]
    # An entry of `models` may be the value of its field `model` alone.
    if positions and names[1:] == [names[0].removesuffix("s")] and entry["type"] != "missing":
        names = names[:1]
    nested = bool(positions) and len(names) > 1
    subject = name = ".".join(names)
    if nested:
        subject = name = f"item {positions[0] + 1} of {names[0]}: {'.'.join(names[1:])}"
    fields = fields_of(config_class, names[:-1])
    if entry["type"] == "extra_forbidden":
        return _unknown(names, fields)
    if entry["type"] == "missing":
        return f"{name} is required."
    accepted = PLAIN.get(entry["type"]) or entry["msg"].removeprefix("Input ")
    accepted = re.sub(r"<\w+\.\w+: ('.+?')>", r"\1", accepted)  # members of enums
    accepted = accepted.replace("greater than or equal to", "at least")
    accepted = accepted.replace("less than or equal to", "at most")
    if entry["type"] in WHOLE:
        return f"{subject} {accepted}."
    word = none_word(fields[names[-1]])
    if positions and not nested:
        subject = f"item {positions[0] + 1} of {name}"
        accepted += f", or {name} should be {word!r}" if word else ""
    elif word:
        if entry["type"] in CHOICES:
            accepted = re.sub(" or (?!.* or )", ", ", accepted)
        accepted += f" or {word!r}"
    if names[-1] in FRACTIONS and entry["type"] != "margin":
        accepted += " (a fraction: 0.03 is three points)"
    given = entry["input"]
    ending = "."
    if isinstance(given, str) and given not in WORDS:
        ending = did_you_mean(given, _choices(fields[names[-1]]))
    return f"{subject} {accepted}, but got {shown(given)}{ending}"


def _field_names(entry: ErrorDetails, config_class: type[BaseModel]) -> list[str]:
    """The names of the sections and the field of an error, without the types of a union.

    pydantic appends the name of the type that it tried, such as `constrained-int`.
    """
    names: list[str] = []
    for part in entry["loc"]:
        if not isinstance(part, str):
            continue
        if names and names[-1] in (fields := fields_of(config_class, names[:-1])):
            section = section_class_of(fields[names[-1]].annotation)
            if section is None:  # what follows is no field
                break
        names.append(part)
    return names


def shown(value: object) -> str:
    """A value as an error quotes it: not all of one that is long or has thousands of digits."""
    with suppress(ValueError):  # Python does not print integers of more than 4,300 digits
        return shortened(without_password(repr(value)))
    return "a number of thousands of digits"


def _unknown(names: Sequence[str], fields: dict[str, FieldInfo]) -> str:
    *sections, name = names
    within = [
        f"{section}.{name}"
        for section, field in fields.items()
        if (section_class := section_class_of(field.annotation)) is not None
        and name in section_class.model_fields
    ]
    meant = [".".join([*sections, field]) for field in [*within, *closest(name, fields)][:1]]
    ending = f"; did you mean {meant[0]!r}?" if meant else f"; expected one of {', '.join(fields)}."
    return f"unknown parameter {shown('.'.join(names))}{ending}"


def _choices(field: FieldInfo) -> list[str]:
    """The words that a field accepts, if it accepts a closed set of them."""
    word = none_word(field)
    return [*_words(field.annotation), *([word] if word else [])]


def _words(annotation: object) -> list[str]:
    """The values of the enums and literals in a type."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for part in get_args(annotation) for word in _words(part)]
