"""Search spaces: the hyperparameters that a search varies, and their ranges, from a YAML file.

Each key is a hyperparameter of `finetune`. A list is a set of choices, a mapping `{low, high, log,
step}` a range with both ends included, and any other value is fixed. Hyperparameters that the file
leaves out keep their defaults.
"""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ValidationError

from isogloss.config import Hyperparameters, explain
from isogloss.config.study_files import read_yaml
from isogloss.errors import ConfigError
from isogloss.models.target_modules import has_experts, reject_dropout
from isogloss.yaml_files import line_of

logger = logging.getLogger(__name__)

INTEGERS = ("steps", "batch_size", "rank", "alpha")
KEYS = {"low", "high", "log", "step"}

Value = int | float | str
Entry = list[Any] | dict[str, Any]  # YAML


@dataclass(frozen=True)
class Space:
    """A search space: distributions and fixed values, by hyperparameter."""

    distributions: Mapping[str, BaseDistribution]
    fixed: Mapping[str, Value]

    def suggest(self, trial: optuna.Trial) -> Hyperparameters:
        """All hyperparameters of a trial, as Optuna's sampler suggests them."""
        chosen: dict[str, Value] = {}
        for name, distribution in self.distributions.items():
            match distribution:
                case CategoricalDistribution(choices=choices):
                    chosen[name] = _value(name, trial.suggest_categorical(name, choices))
                case IntDistribution(low=low, high=high, log=log, step=step):
                    chosen[name] = trial.suggest_int(name, low, high, log=log, step=step)
                case FloatDistribution(low=low, high=high, log=log, step=step):
                    chosen[name] = trial.suggest_float(name, low, high, log=log, step=step)
        return self.complete(chosen)

    def complete(self, chosen: Mapping[str, object]) -> Hyperparameters:
        """All hyperparameters: those chosen, the fixed ones and the defaults."""
        return Hyperparameters.model_validate({**self.fixed, **chosen})

    def values(self, name: str) -> list[Any]:  # of the type of that hyperparameter
        """Its choices, the ends of its range, or its single value; numbers in ascending order."""
        match self.distributions.get(name):
            case CategoricalDistribution(choices=choices):
                values = [_value(name, choice) for choice in choices]
                return values if isinstance(values[0], str) else sorted(values)
            case IntDistribution(low=low, high=high) | FloatDistribution(low=low, high=high):
                return [low, high]
            case _:
                return [getattr(self.complete({}), name)]

    def describe(self) -> dict[str, object]:
        """The space as JSON, for fingerprints."""
        return {
            "fixed": self.complete({}).model_dump(exclude=set(self.distributions)),
            "searched": {name: repr(value) for name, value in sorted(self.distributions.items())},
        }


def read_space(path: Path) -> Space:
    """Read a search space; ConfigError names the first invalid entry."""
    content, text = read_yaml(path, "space")
    distributions: dict[str, BaseDistribution] = {}
    fixed: dict[str, Value] = {}
    for name, entry in content.items():
        try:
            if isinstance(entry, list | dict):
                distributions[name] = _distribution(name, entry)
            else:
                fixed[name] = _value(name, entry)
        except ValidationError as error:
            problem = explain(error, Hyperparameters, partial(line_of, text))
            raise ConfigError(f"space {str(path)!r}: {problem}") from error
        except (TypeError, ValueError) as error:
            raise ConfigError(f"space {str(path)!r}: {name}: {error}") from error
    if not distributions:
        raise ConfigError(
            f"space {str(path)!r} has fixed values only, so there is nothing to search; expected a "
            f"list of choices or a range {{low, high}}."
        )
    space = Space(distributions, fixed)
    try:
        _check_experts(space)
    except ConfigError as error:
        raise ConfigError(f"space {str(path)!r}: {error}") from error
    return space


def _check_experts(space: Space) -> None:
    """ConfigError if the space allows LoRA on experts together with dropout."""
    for target_modules in space.values("target_modules"):
        if has_experts(target_modules):
            reject_dropout(max(space.values("dropout")), target_modules)


def _value(name: str, entry: object) -> Any:  # of the type of that hyperparameter
    """A validated value of a hyperparameter. (YAML reads 1e-4, without a dot, as text.)"""
    return getattr(Hyperparameters.model_validate({name: entry}), name)


def _distribution(name: str, entry: Entry) -> BaseDistribution:
    """The distribution of a list of choices or of a range."""
    if isinstance(entry, list):
        choices = [_value(name, choice) for choice in entry]
        if len(set(choices)) < len(choices) or not choices:
            raise ValueError(f"a list of choices needs distinct values, but got {entry!r}.")
        return CategoricalDistribution(choices)
    if not {"low", "high"} <= set(entry) <= KEYS:
        raise ValueError(
            f"a range needs low and high and may have log and step, but got {entry!r}."
        )
    low, high = _value(name, entry["low"]), _value(name, entry["high"])
    log, step = bool(entry.get("log", False)), entry.get("step")
    if name in INTEGERS and isinstance(step, float) and (step < 1 or step % 1):
        raise ValueError(f"step must be a whole number of at least 1, but got {step}.")
    with warnings.catch_warnings(record=True) as caught:  # Optuna's, that a step changes the range
        warnings.simplefilter("always")
        if name in INTEGERS:
            distribution: BaseDistribution = IntDistribution(low, high, log, step or 1)
        else:
            distribution = FloatDistribution(low, high, log, step)
    for warning in caught:
        logger.warning(f"{name}: {warning.message}")
    return distribution
