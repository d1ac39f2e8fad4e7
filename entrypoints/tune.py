"""Search for a training recipe by dev accuracy in the source language."""

from isogloss.cli import command
from isogloss.config import TuneConfig


def run(config: TuneConfig) -> None:
    """Import what is heavy only once the command line is known to be sound, and go."""
    from isogloss.stages.tune import run_tune

    run_tune(config)


main = command(TuneConfig, run)

if __name__ == "__main__":
    main(prog_name="tune")
