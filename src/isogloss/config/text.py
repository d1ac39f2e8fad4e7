"""Configurations as text: command lines, and errors in plain sentences."""

import re
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from shlex import quote
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from isogloss.config.engine import Engine, as_yaml
from isogloss.config.entry_points import ENTRY_POINTS
from isogloss.config.study import CellConfig, StudyConfig
from isogloss.config.words import joined, none_word
from isogloss.formatting import shortened, without_password

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


def explain(error: ValidationError, config_class: type[BaseModel]) -> str:
    """One line per wrong parameter: its name, what is accepted, and the value."""
    entries = error.errors()
    lines = [_sentence(entry, config_class) for entry in entries[:MOST_LINES]]
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
    fields = _fields(names[:-1], config_class)
    if entry["type"] == "extra_forbidden":
        return _unknown(names, fields)
    if entry["type"] == "missing":
        return f"{name} is required."
    accepted = PLAIN.get(entry["type"]) or entry["msg"].removeprefix("Input ")
    accepted = re.sub(r"<\w+\.\w+: ('.+?')>", r"\1", accepted)  # members of enums
    accepted = accepted.replace("greater than or equal to", "at least")
    accepted = accepted.replace("less than or equal to", "at most")
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
    return f"{subject} {accepted}, but got {shown(entry['input'])}."


def _field_names(entry: ErrorDetails, config_class: type[BaseModel]) -> list[str]:
    """The names of the sections and the field of an error, without the types of a union.

    pydantic appends the name of the type that it tried, such as `constrained-int`.
    """
    names: list[str] = []
    for part in entry["loc"]:
        if not isinstance(part, str):
            continue
        if names and names[-1] in (fields := _fields(names[:-1], config_class)):
            section = _section_class(fields[names[-1]].annotation)
            if section is None:  # what follows is no field
                break
        names.append(part)
    return names


def shown(value: object) -> str:
    """A value as an error quotes it: not all of one that is long or has thousands of digits."""
    with suppress(ValueError):  # Python does not print integers of more than 4,300 digits
        return shortened(without_password(repr(value)))
    return "a number of thousands of digits"


def _fields(sections: Sequence[str], config_class: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a configuration, or of a section of it."""
    fields = config_class.model_fields
    for section in sections:
        section_class = _section_class(fields[section].annotation)
        if section_class is None:
            return {}
        fields = section_class.model_fields
    return fields


def _section_class(annotation: object) -> type[BaseModel] | None:
    """The configuration in the type of a field: itself, optional, or in a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_class, get_args(annotation))), None)


def _unknown(names: Sequence[str], fields: dict[str, FieldInfo]) -> str:
    *sections, name = names
    close = get_close_matches(name, fields, n=1)
    if close:
        meant = ".".join([*sections, close[0]])
        return f"unknown parameter {shown('.'.join(names))}; did you mean {meant!r}?"
    return f"unknown parameter {shown('.'.join(names))}; expected one of {', '.join(fields)}."
