"""Search for a training recipe."""

from isogloss.cli.command import start
from isogloss.cli.stages import COMMANDS

main = COMMANDS["tune"]

if __name__ == "__main__":
    start(main, "tune")
