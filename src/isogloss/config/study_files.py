"""Study files and recipes: YAML written by people, checked before anything is loaded."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from isogloss.config.finetune import Hyperparameters
from isogloss.config.study import LISTS, StudyConfig, StudyModel, is_set
from isogloss.config.text import explain
from isogloss.errors import ConfigError
from isogloss.files import looked_for
from isogloss.formatting import did_you_mean, listed
from isogloss.yaml_files import line_of, load_yaml


def read_study(
    path: Path, overrides: Mapping[str, str], recipe: Mapping[str, object] | None = None
) -> StudyConfig:
    """Read a study file.

    `overrides` replace values of the file, and a list the single value for which it stands;
    `recipe` replaces hyperparameters of its `finetune` section, which is a mapping or the path of a
    recipe. Paths of recipes and of covariates are relative to the study file. Raises ConfigError,
    also for a replacement that would change nothing because the file has a more specific value.
    """
    content, text = read_yaml(path, "study file")
    replaced = {name for name, several in LISTS.items() if is_set(overrides, several)}
    content = {name: value for name, value in content.items() if name not in replaced}
    training = content.get("finetune", {})
    if isinstance(training, str):
        training = read_recipe(path.parent / training)
    if recipe is not None and isinstance(training, dict):
        training = {**training, **recipe}

    def line(place: Sequence[str | int]) -> int | None:
        return None if not place or place[0] in overrides else line_of(text, place)

    try:
        study = StudyConfig.model_validate({**content, **overrides, "finetune": training})
    except ValidationError as error:
        raise ConfigError(
            f"{_blamed(error, overrides, path)}: {explain(error, StudyConfig, line)}"
        ) from error
    _refuse_without_effect(study, overrides, recipe, path)
    models = study.models and tuple(_with_recipe(model, path) for model in study.models)
    compare = study.compare
    if compare.covariates:
        covariates = str(path.parent / compare.covariates)
        compare = compare.model_copy(update={"covariates": covariates})
    return study.model_copy(update={"models": models, "compare": compare})


def _refuse_without_effect(
    study: StudyConfig,
    overrides: Mapping[str, str],
    recipe: Mapping[str, object] | None,
    path: Path,
) -> None:
    """Raise ConfigError for a replacement that loses to a more specific value of the study."""
    own_seeds = [entry.source for entry in study.sources or () if entry.seeds]
    seeded = study.seeds or (study.sources and len(own_seeds) == len(study.sources))
    own_recipes = [model.name for model in study.models or () if model.recipe is not None]
    lost, where = "", f"study file {str(path)!r}"
    if "seeds" in overrides and own_seeds:
        lost = f"seeds has no effect on source {own_seeds[0]!r}, which has its own; change the file"
    elif "seed" in overrides and seeded and not study.shuffle_options:
        lost = "seed has no effect beside seeds; set seeds"
        where = "command line" if "seeds" in overrides else where
    elif recipe is not None and own_recipes:
        lost = (
            f"recipe has no effect on model {own_recipes[0]!r}, which has its own; change the file"
        )
    if lost:
        raise ConfigError(f"{where}: {lost}.")


def _blamed(error: ValidationError, overrides: Mapping[str, str], path: Path) -> str:
    """Where the faulty values are: in the study file, on the command line, or in both together."""
    faults = [entry["loc"][:1] for entry in error.errors()]
    replaced = [str(name) for place in faults for name in place if name in overrides]
    if len(replaced) == len(faults):
        return "command line"
    where = f"study file {str(path)!r}"
    if overrides and (replaced or () in faults):  # a check of several parameters together
        where += f", with {listed(sorted(overrides))} of the command line"
    return where


def _with_recipe(model: StudyModel, study_file: Path) -> StudyModel:
    """A model of a study whose recipe is its validated hyperparameters by name."""
    if model.recipe is None:
        return model
    if isinstance(model.recipe, str):
        values = read_recipe(study_file.parent / model.recipe)
    else:
        values = recipe_values({"finetune": model.recipe}, f"of model {model.name!r}")
    return model.model_copy(update={"recipe": values})


def read_recipe(path: Path) -> dict[str, object]:
    """The hyperparameters under `finetune` in a file such as tune's best.yaml."""
    content, text = read_yaml(path, "recipe")
    return recipe_values(content, repr(str(path)), text)


def recipe_values(content: object, where: str, text: str = "") -> dict[str, object]:
    """The validated hyperparameters under `finetune`; `where` names the recipe in errors.

    `text` is its YAML, for the lines of faults.

    Raises ConfigError if there are none, or an unknown one.
    """
    values = content.get("finetune") if isinstance(content, dict) else None
    if not isinstance(values, dict) or not values:
        raise ConfigError(
            f"recipe {where} has no mapping `finetune` of hyperparameters, such as "
            "'finetune: {steps: 30, rank: 16}'."
        )
    try:
        return Hyperparameters.model_validate(values).model_dump(include=set(values))
    except ValidationError as error:
        problem = explain(error, Hyperparameters, lambda place: line_of(text, ("finetune", *place)))
        raise ConfigError(f"recipe {where}: {problem}") from error


def _beside(path: Path) -> list[str]:
    """The other YAML files in the folder of a file."""
    with suppress(OSError):
        return [str(other) for other in path.parent.iterdir() if other.suffix in (".yaml", ".yml")]
    return []


def read_yaml(path: Path, what: str) -> tuple[dict[str, object], str]:
    """The mapping in a YAML file, and its text; `what` names the kind of file in errors.

    Raises ConfigError if the file cannot be read, is not YAML, or holds something else.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"{what} {str(path)!r} cannot be read ({reason}){looked_for(path)}"
            f"{did_you_mean(str(path), _beside(path))}"
        ) from error
    content = load_yaml(text, f"{what} {str(path)!r}", ConfigError)
    if not isinstance(content, dict):
        raise ConfigError(f"{what} {str(path)!r} is not a mapping of parameters.")
    return content, text
