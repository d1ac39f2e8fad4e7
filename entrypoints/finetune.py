"""Fine-tune an adapter on the source language."""

from isogloss.cli.command import start
from isogloss.cli.stages import COMMANDS

main = COMMANDS["finetune"]

if __name__ == "__main__":
    start(main, "finetune")
