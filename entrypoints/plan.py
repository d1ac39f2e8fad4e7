"""Tell what a design can show before it is paid for."""

from isogloss.cli import command
from isogloss.config import PlanConfig


def run(config: PlanConfig) -> None:
    """Import what is heavy only once the command line is known to be sound, and go."""
    from isogloss.stages.plan import run_plan

    run_plan(config)


main = command(PlanConfig, run)

if __name__ == "__main__":
    main(prog_name="plan")
