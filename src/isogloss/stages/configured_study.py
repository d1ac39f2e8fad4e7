"""The study that parameters of `main`, `cell` and `cells` describe: a file and its replacements."""

from pathlib import Path

from isogloss.config import MainConfig, StudyConfig
from isogloss.config.study import KEEP_FILE
from isogloss.config.study_files import read_study
from isogloss.stages.training_inputs import load_recipe


def configured_study(config: MainConfig) -> StudyConfig:
    """Read the study file and replace what the parameters replace; ConfigError if it is invalid."""
    overrides = {
        name: value
        for name, value in config.model_dump(exclude={"study", "experiment", "recipe"}).items()
        if name in StudyConfig.model_fields and value != KEEP_FILE
    }
    study = read_study(Path(config.study), overrides)
    if config.recipe == KEEP_FILE:
        return study
    recipe = load_recipe(config.recipe, study)
    return read_study(Path(config.study), overrides, recipe)
