"""The study that parameters of `main`, `cell` and `cells` describe: a file and its replacements."""

from pathlib import Path

from isogloss.config import MainConfig, StudyConfig
from isogloss.config.study import KEEP_FILE
from isogloss.config.study_files import read_study
from isogloss.languages import source_languages
from isogloss.stages.quick import quick_study
from isogloss.stages.training_inputs import load_recipe


def configured_study(config: MainConfig) -> StudyConfig:
    """Read the study file and replace what the parameters replace.

    ConfigError if it is invalid or names an unknown language.
    """
    overrides = {
        name: value
        for name, value in config.model_dump(exclude={"study", "experiment", "recipe"}).items()
        if name in StudyConfig.model_fields and value != KEEP_FILE
    }
    study = read_study(Path(config.study), overrides)
    _check_languages(study)
    if config.recipe != KEEP_FILE:
        recipe = load_recipe(config.recipe, study)
        study = read_study(Path(config.study), overrides, recipe)
    return quick_study(study) if study.quick else study


def _check_languages(study: StudyConfig) -> None:
    """Raise ConfigError for an unknown language, before models are looked for."""
    sources = [entry.source for entry in study.sources or ()]
    for named in (study.source, study.control_source, *sources, *(study.languages or ())):
        if named is not None:
            source_languages(named)
