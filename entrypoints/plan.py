"""Compute what a design can show before you pay for it."""

from isogloss.cli.command import start
from isogloss.cli.stages import COMMANDS

main = COMMANDS["plan"]

if __name__ == "__main__":
    start(main, "plan")
