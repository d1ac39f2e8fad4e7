"""YAML files that ship with the package, checked against a model of what they hold."""

from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from isogloss.errors import DataError

M = TypeVar("M", bound=BaseModel)


def parse_yaml(text: str, file: str, model: type[M]) -> M:
    """The content of a file as `model`; DataError names the file and the first faulty field."""
    try:
        return model.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors()[0]
        place = " ".join(map(str, first["loc"]))
        raise DataError(f"{file}: {place} cannot be used: {first['msg']}.") from None
    except yaml.YAMLError as error:
        raise DataError(f"{file} is not YAML: {' '.join(str(error).split())}.") from None
