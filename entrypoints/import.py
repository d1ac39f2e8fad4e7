"""Make evaluate runs of results from elsewhere."""
# ruff: noqa: N999 (a keyword is a name for a module that is only run)

from isogloss.cli import command
from isogloss.config import ImportConfig


def run(config: ImportConfig) -> None:
    """Import what is heavy only once the command line is known to be sound, and go."""
    from isogloss.stages.import_results import run_import

    run_import(config)


main = command(ImportConfig, run)

if __name__ == "__main__":
    main(prog_name="import")
