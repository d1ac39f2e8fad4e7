"""The program `isogloss`: the entry points, and commands that show what is there."""

import click

import isogloss
from isogloss.cli.cells import cell, cells
from isogloss.cli.command import SETTINGS, start
from isogloss.cli.doctor import doctor
from isogloss.cli.languages import languages, tasks
from isogloss.cli.models import models
from isogloss.cli.stages import COMMANDS


class _InOrder(click.Group):
    """A group whose help lists commands in the order they were added."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Names in order."""
        return list(self.commands)


program = _InOrder(
    "isogloss",
    commands=[*COMMANDS.values(), cell, cells, tasks, languages, models, doctor],
    help="Fine-tune a language model on one language, measure reading comprehension in many, and "
    "test whether the gain follows kinship between languages.",
    context_settings=SETTINGS,
)
click.version_option(isogloss.__version__, prog_name="isogloss")(program)


def main() -> None:
    """The console script."""
    start(program, "isogloss")
