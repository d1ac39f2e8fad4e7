"""Test whether related languages gain more."""

from isogloss.cli import command
from isogloss.config import CompareConfig


def run(config: CompareConfig) -> None:
    """Import what is heavy only once the command line is known to be sound, and go."""
    from isogloss.stages.compare import run_compare

    run_compare(config)


main = command(CompareConfig, run)

if __name__ == "__main__":
    main(prog_name="compare")
