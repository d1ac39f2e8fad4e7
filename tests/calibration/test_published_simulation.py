"""The simulation of the published analysis prints the rows of its page."""

import re
import sys
from pathlib import Path

import pytest

from scripts import published_simulation

PAGE = Path(__file__).parents[2] / "docs/explanation/statistics.md"


def rows(text: str) -> dict[str, list[str]]:
    """Cells of a table by label of the row."""
    lines = re.findall(r"^\| (.*?) \|(.*)\|$", text, re.MULTILINE)
    return {label: [cell.strip(" *") for cell in cells.split("|")] for label, cells in lines}


def test_the_script_prints_the_rows_of_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["published_simulation", "--studies", "4"])
    published_simulation.main()
    printed, page = rows(capsys.readouterr().out), rows(PAGE.read_text(encoding="utf-8"))
    assert list(printed) == ["design", *published_simulation.DESIGNS]
    for label, cells in printed.items():
        assert len(page[label]) == len(cells) == 6
        assert [bool(cell) for cell in page[label]] == [bool(cell) for cell in cells]
