"""Designs of equal cost: their costs, and the table of the page on planning."""

import re
import sys
from pathlib import Path

import pytest

from scripts import second_source

PAGE = Path(__file__).parents[2] / "docs/how-to/plan-a-study.md"


def test_designs_cost_as_much_as_six_sources_apart_from_the_small_one() -> None:
    small, *others = second_source.CANDIDATES
    costs = {candidate.name: candidate.cost for candidate in others}
    assert costs["6 sources, 4 relatives each"] == pytest.approx(6 * 9.6 + 24 * 7)
    assert max(costs.values()) < 1.05 * min(costs.values())
    assert small.cost < 0.2 * min(costs.values())


def test_the_script_prints_rows_of_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--studies", "3", "--designs", "1", "4"])
    second_source.main()
    _, _, *rows = capsys.readouterr().out.splitlines()
    page = PAGE.read_text(encoding="utf-8")
    for row in rows:
        name, cost, *rates = (cell.strip() for cell in row.strip("|").split("|"))
        assert f"| {name} | {cost} | " in page
        assert len(rates) == 5
        assert all(re.fullmatch(r"\d+", rate) for rate in rates)
    assert [row.split("|")[1].strip() for row in rows] == [
        "1 source, 12 controls",
        "4 sources, 9 relatives each",
    ]
