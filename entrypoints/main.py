"""Run a whole study from a YAML file."""

from isogloss.cli.command import start
from isogloss.cli.stages import COMMANDS

main = COMMANDS["main"]

if __name__ == "__main__":
    start(main, "main")
