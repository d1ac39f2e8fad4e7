"""Register an adapter."""

from isogloss.cli.command import start
from isogloss.cli.stages import COMMANDS

main = COMMANDS["register"]

if __name__ == "__main__":
    start(main, "register")
