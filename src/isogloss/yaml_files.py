"""YAML that people write: read strictly, and validated against a pydantic model."""

from collections.abc import Hashable, Sequence
from typing import Any, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from isogloss.errors import DataError, IsoglossError
from isogloss.formatting import did_you_mean, shortened

M = TypeVar("M", bound=BaseModel)

LARGEST_YAML = 1_000_000  # characters; pyyaml reads about a million in ten seconds
DEEPEST = 50  # mappings and lists within one another


class _StrictLoader(yaml.SafeLoader):
    """A safe loader for files that people write.

    It rejects a key that a mapping has twice (YAML takes the last), aliases (a few lines of which
    stand for gigabytes) and deep nesting (which overflows the stack).
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _fault(f"the alias *{event.anchor} is not accepted; write the value again", event)
        if self.depth == DEEPEST:
            raise _fault(f"it is nested more than {DEEPEST} deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first_by_key: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in first_by_key:
                first = first_by_key[key.value].line + 1
                raise _fault(f"the key {key.value!r} occurs twice, first in line {first}", key)
            first_by_key[key.value] = key.start_mark
        return super().construct_mapping(node, deep)


def _fault(problem: str, place: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(
        problem=problem, problem_mark=cast("yaml.Mark | None", place.start_mark)
    )


def load_yaml(text: str, file: str, error_class: type[IsoglossError] = DataError) -> object:
    """The content of a YAML file; `error_class` names the file if it is not YAML.

    Neither are files of more than LARGEST_YAML characters, nor what `_StrictLoader` rejects.
    """
    if len(text) > LARGEST_YAML:
        raise error_class(
            f"{file} has {len(text):,} characters; expected {LARGEST_YAML:,} at most."
        )
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise error_class(f"{file} is not YAML: {shortened(_yaml_problem(error), 400)}.") from None
    except ValueError as error:  # such as a number of thousands of digits
        raise error_class(f"{file} is not YAML: {shortened(str(error), 400)}.") from None


def _yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, on one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    context = f"{error.context}, " if error.context else ""
    mark = error.problem_mark
    return f"{context}{error.problem} (line {mark.line + 1}, column {mark.column + 1})"


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line of a key or an entry in YAML text, from 1, by the keys and places that lead to it.

    None if the text has no such entry.
    """
    try:
        node = yaml.compose(text, _StrictLoader) if text else None
    except yaml.YAMLError:
        return None
    line = None
    for part in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break  # of a mapping that was made from a list
            node = node.value[part]
            line = node.start_mark.line
        elif isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                return None
            line, node = found[0][0].start_mark.line, found[0][1]
        else:
            break  # a value that stands for a mapping, such as the name of a model
    return None if line is None else line + 1


def fields_of(model: type[BaseModel], sections: Sequence[str]) -> dict[str, FieldInfo]:
    """The fields of a model, or of a section of it; none if a section is not a model."""
    fields = model.model_fields
    for section in sections:
        section_class = section_class_of(fields[section].annotation)
        if section_class is None:
            return {}
        fields = section_class.model_fields
    return fields


def section_class_of(annotation: object) -> type[BaseModel] | None:
    """The model in the type of a field: itself, optional, or in a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_class_of, get_args(annotation))), None)


def validate(
    content: object,
    place: str,
    model: type[M],
    error_class: type[IsoglossError] = DataError,
    text: str = "",
) -> M:
    """The content of `place` (a file) as `model`; `error_class` names the first invalid field.

    With the `text` of the file, its line too.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the content"
        line = line_of(text, first["loc"])
        place = place if line is None else f"{place}: line {line}"
        if first["type"] == "extra_forbidden":
            *sections, name = (part for part in first["loc"] if isinstance(part, str))
            ending = did_you_mean(name, fields_of(model, sections))
            raise error_class(f"{place}: unknown field {field!r}{ending}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise error_class(f"{place}: {field} is invalid: {message}.") from None


def parse_yaml(text: str, file: str, model: type[M]) -> M:
    """The YAML content of a file as `model`; DataError names the file and the first fault."""
    return validate(load_yaml(text, file), file, model, text=text)
