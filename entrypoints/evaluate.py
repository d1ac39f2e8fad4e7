"""Evaluate one condition in many languages."""

from isogloss.cli.command import start
from isogloss.cli.stages import COMMANDS

main = COMMANDS["evaluate"]

if __name__ == "__main__":
    start(main, "evaluate")
