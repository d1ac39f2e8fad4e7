"""A whole study from a YAML file."""

from isogloss.cli import command
from isogloss.config import MainConfig


def run(config: MainConfig) -> None:
    """Import what is heavy only once the command line is known to be sound, and go."""
    from isogloss.stages.study import run_main

    run_main(config)


main = command(MainConfig, run)

if __name__ == "__main__":
    main(prog_name="main")
