"""Registration: a logged adapter becomes a version of a registered model."""

from isogloss.config import RegisterConfig
from isogloss.registry.register import register


def run_register(config: RegisterConfig) -> str:
    """The entry point `register`; returns the URI of the model version."""
    name = None if config.name == "auto" else config.name
    registration = register(config.adapter, name, config.alias)
    print(f"{registration.uri}: {registration.message}")
    return registration.uri
