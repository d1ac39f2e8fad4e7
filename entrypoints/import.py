"""Turn results of other tools into evaluate runs."""
# ruff: noqa: N999 (a keyword as the name of a module that is only run)

from isogloss.cli.command import start
from isogloss.cli.stages import COMMANDS

main = COMMANDS["import"]

if __name__ == "__main__":
    start(main, "import")
