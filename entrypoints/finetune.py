"""Train an adapter on the source language."""

from isogloss.cli import command
from isogloss.config import FinetuneConfig


def run(config: FinetuneConfig) -> None:
    """Import what is heavy only once the command line is known to be sound, and go."""
    from isogloss.stages.finetune import run_finetune

    run_finetune(config)


main = command(FinetuneConfig, run)

if __name__ == "__main__":
    main(prog_name="finetune")
