"""The recipe that a parameter names: a file, or the best one of a tune run."""

import logging
from pathlib import Path
from typing import Any

from isogloss.config import SharedConfig
from isogloss.config.study_files import read_recipe, recipe_values
from isogloss.errors import ConfigError
from isogloss.files import looked_for
from isogloss.yaml_files import load_yaml

logger = logging.getLogger(__name__)

BEST_RECIPE = "best.yaml"  # artifact of a tune run
RUN_ID_LENGTH = 32


def may_be_run(recipe: str) -> bool:
    """Whether a recipe is the id of a tune run, which MLflow knows, and not a file."""
    return len(recipe) == RUN_ID_LENGTH and not Path(recipe).exists()


def load_recipe(recipe: str, config: SharedConfig) -> dict[str, Any]:  # YAML
    """Hyperparameters from a YAML file, or from the best recipe of a tune run given by its id.

    Logs in what the search of that run differs from `config`. Raises ConfigError if there is no
    such recipe.
    """
    if not may_be_run(recipe):
        return read_recipe(Path(recipe))
    import mlflow  # takes seconds, which a study file does not need
    from mlflow.exceptions import MlflowException

    from isogloss.tracking import RunKind, tag
    from isogloss.tracking.server import hides_artifacts
    from isogloss.tracking.similar import similar_runs

    try:
        run = mlflow.get_run(recipe)
        text = mlflow.artifacts.load_text(f"runs:/{recipe}/{BEST_RECIPE}")
    except (MlflowException, OSError) as error:
        if hides_artifacts(error):
            raise
        raise ConfigError(
            f"recipe {recipe!r} is neither a file nor the id of a tune run{looked_for(recipe)}"
            f"{similar_runs(recipe, RunKind.TUNE)}"
        ) from error
    differences = []
    for name in ("model", "task", "source", "format", "labels", "prompt_language"):
        searched = tag(run, "answer_labels" if name == "labels" else name)
        current = getattr(config, name)
        if searched is not None and current not in (None, searched):
            differences.append(f"{name} {searched} (here {current})")
    if differences:
        logger.info(f"the recipe comes from a search with {', '.join(differences)}")
    return recipe_values(
        load_yaml(text, f"the recipe of run {recipe!r}", ConfigError), repr(recipe)
    )
