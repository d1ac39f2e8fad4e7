"""The study that parameters of `main`, `cell` and `cells` describe: a file and its replacements."""

from pathlib import Path

from isogloss.config import MainConfig, StudyConfig
from isogloss.config.study import KEEP_FILE
from isogloss.config.study_files import read_study
from isogloss.config.text import command_line
from isogloss.stages.quick import quick_study
from isogloss.stages.recipe_by_name import load_recipe
from isogloss.stages.task_data import check_languages


def configured_study(config: MainConfig) -> StudyConfig:
    """Read the study file and replace what the parameters replace.

    ConfigError if it is invalid or names an unknown language.
    """
    study = study_in_file(config)
    if config.recipe != KEEP_FILE:
        recipe = load_recipe(config.recipe, study)
        study = read_study(Path(config.study), _overrides(config), recipe)
    return quick_study(study) if study.quick else study


def study_in_file(config: MainConfig) -> StudyConfig:
    """`configured_study` without what `recipe` and `quick` replace: nothing slow is imported."""
    study = read_study(Path(config.study), _overrides(config))
    sources = [entry.source for entry in study.sources or ()]
    named = (study.source, study.control_source, *sources)
    check_languages(study.languages, list(filter(None, named)))
    return study


def command_without_quick(config: MainConfig) -> str:
    """The command that runs the whole study of a configuration of which `quick` is true."""
    full = config.model_copy(update={"quick": KEEP_FILE})
    if study_in_file(full).quick:
        full = config.model_copy(update={"quick": "false"})
    return command_line("main", full)


def _overrides(config: MainConfig) -> dict[str, str]:
    return {
        name: value
        for name, value in config.model_dump(exclude={"study", "experiment", "recipe"}).items()
        if name in StudyConfig.model_fields and value != KEEP_FILE
    }
