"""Study files and recipes: YAML as people write it, checked before anything is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from isogloss.config import Hyperparameters, StudyConfig, explain
from isogloss.errors import ConfigError


def read_study(
    path: Path, overrides: Mapping[str, str], recipe: Mapping[str, Any] | None = None
) -> StudyConfig:
    """Read a study file; `overrides` are values that take the place of the file's, as strings.

    Its `finetune` is a mapping, or the path of a recipe from where the study file is; the
    hyperparameters of `recipe` go before it.
    """
    content = read_mapping(path, "study file")
    training = content.get("finetune", {})
    if isinstance(training, str):
        training = read_recipe(path.parent / training)
    if recipe is not None and isinstance(training, dict):
        training = {**training, **recipe}
    try:
        return StudyConfig.model_validate({**content, **overrides, "finetune": training})
    except ValidationError as error:
        raise ConfigError(f"study file {str(path)!r}: {explain(error)}") from error


def read_recipe(path: Path) -> dict[str, Any]:
    """The hyperparameters that a file like tune's best.yaml has under `finetune`."""
    return recipe_values(read_mapping(path, "recipe"), repr(str(path)))


def recipe_values(content: Any, where: str) -> dict[str, Any]:
    """The checked hyperparameters under `finetune`; ConfigError if there are none or others."""
    values = content.get("finetune") if isinstance(content, dict) else None
    if not isinstance(values, dict) or not values:
        raise ConfigError(
            f"recipe {where} has no mapping `finetune` of hyperparameters, as in "
            "'finetune: {steps: 30, rank: 16}'."
        )
    try:
        return Hyperparameters.model_validate(values).model_dump(include=set(values))
    except ValidationError as error:
        raise ConfigError(f"recipe {where}: {explain(error)}") from error


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """A YAML file that holds a mapping; ConfigError if it is something else, or not there."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{what} {str(path)!r} cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} {str(path)!r} is not YAML ({error}).") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{what} {str(path)!r} is not a mapping of parameters.")
    return content
