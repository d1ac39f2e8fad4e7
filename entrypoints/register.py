"""Register an adapter."""

from isogloss.cli import command
from isogloss.config import RegisterConfig


def run(config: RegisterConfig) -> None:
    """Import what is heavy only once the command line is known to be sound, and go."""
    from isogloss.registry.adapters import run_register

    run_register(config)


main = command(RegisterConfig, run)

if __name__ == "__main__":
    main(prog_name="register")
