"""Test whether related languages gain more."""

from isogloss.cli.command import start
from isogloss.cli.stages import COMMANDS

main = COMMANDS["compare"]

if __name__ == "__main__":
    start(main, "compare")
