"""Files: atomic writes, and YAML validated against a pydantic model."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from isogloss.errors import DataError, IsoglossError

M = TypeVar("M", bound=BaseModel)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader finds the old content or the new, never a part of it."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which replaces `folder` at the end of the context.

    After an error, or if the process is killed, `folder` is as it was before.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def load_yaml(text: str, file: str, error_class: type[IsoglossError] = DataError) -> object:
    """The content of a YAML file; `error_class` names the file if it is not YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise error_class(f"{file} is not YAML: {' '.join(str(error).split())}.") from None


def validate(
    content: object, place: str, model: type[M], error_class: type[IsoglossError] = DataError
) -> M:
    """The content of `place` (a file) as `model`; `error_class` names the first invalid field."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the content"
        if first["type"] == "extra_forbidden":
            raise error_class(f"{place}: unknown field {field!r}.") from None
        message = first["msg"].removeprefix("Value error, ")
        raise error_class(f"{place}: {field} is invalid: {message}.") from None


def parse_yaml(text: str, file: str, model: type[M]) -> M:
    """The YAML content of a file as `model`; DataError names the file and the first fault."""
    return validate(load_yaml(text, file), file, model)
