"""The cost model against the measured figures: the aims, and the published table."""

from pathlib import Path

import pytest

from benchmarks.cost_check import Check, every_check, page

DOCS = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "costs.md"


@pytest.fixture(scope="module")
def measured() -> list[Check]:
    return list(every_check())


def test_memory_is_within_15_percent_and_time_within_30(measured: list[Check]) -> None:
    assert len(measured) >= 44
    outside = [(check.machine, check.what, check.unit) for check in measured if not check.within]
    assert outside == []


def test_predictions_are_not_biased(measured: list[Check]) -> None:
    for unit in ("s", "GB"):
        errors = [check.error for check in measured if check.unit == unit]
        assert abs(sum(errors) / len(errors)) < 0.06


def test_the_documentation_has_the_table() -> None:
    # Without trailing white space, which formatters may remove.
    assert page().strip() in DOCS.read_text("utf-8")
