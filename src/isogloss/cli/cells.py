"""The commands `cell` and `cells`: parts of a study, for launchers and for people."""

import click

from isogloss.cli.command import stage_command
from isogloss.config import CellConfig, CellsConfig


def _cell(config: CellConfig) -> None:
    from isogloss.stages.cell import run_cell_command

    run_cell_command(config)


def _cells(config: CellsConfig) -> None:
    from isogloss.stages.cell import run_cells_command

    run_cells_command(config)


cell = stage_command(
    "cell", CellConfig, _cell, arguments=("study", "cell"), left_out=("dry_run", "launcher")
)
cells = stage_command(
    "cells",
    CellsConfig,
    _cells,
    arguments=("study",),
    left_out=("dry_run", "json_output", "launcher"),
)
cells.params.append(
    click.Option(["--json", "json_output"], is_flag=True, help="Print a list of JSON objects.")
)
