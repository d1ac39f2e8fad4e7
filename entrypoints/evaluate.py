"""Evaluate one condition in many languages."""

from isogloss.cli import command
from isogloss.config import EvaluateConfig


def run(config: EvaluateConfig) -> None:
    """Import what is heavy only once the command line is known to be sound, and go."""
    from isogloss.stages.evaluate import run_evaluate

    run_evaluate(config)


main = command(EvaluateConfig, run)

if __name__ == "__main__":
    main(prog_name="evaluate")
