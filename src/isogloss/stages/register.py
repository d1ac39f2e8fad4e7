"""Registration: a logged adapter becomes a version of a registered model."""

from isogloss.config import RegisterConfig
from isogloss.registry.register import register
from isogloss.stages.run_names import run_name
from isogloss.tracking.project_run import name_project_run
from isogloss.tracking.tags import PREFIX


def run_register(config: RegisterConfig) -> str:
    """The entry point `register`; returns the URI of the model version."""
    name = None if config.name == "auto" else config.name
    registration = register(config.adapter, name, config.alias)
    model, source, task, seed = (
        registration.tags[f"{PREFIX}{key}"] for key in ("base_model", "source", "task", "seed")
    )
    name_project_run(run_name("register", [model], [source], task, int(seed)))
    print(f"{registration.uri}: {registration.message}")
    return registration.uri
