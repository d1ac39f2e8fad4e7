"""The cost model against every measured figure: the aims, the misses, and the published table."""

from pathlib import Path

import pytest

from benchmarks.cost_check import Check, every_check, page

DOCS = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "costs.md"
# docs/explanation/costs.md has the reasons.
MISSES = {
    ("AMD EPYC, 2026-11-24", "scoring, cloze, bfloat16", "GB"),
    ("AMD EPYC, 2026-11-24", "scoring, letter, bfloat16", "GB"),
    ("AMD EPYC, 2026-11-24", "training, probe, bfloat16", "GB"),
    ("AMD EPYC, 2026-11-24", "training, sib200, bfloat16", "GB"),
    ("AMD EPYC, 2026-11-27", "scoring, letter, nf4", "GB"),
    ("Intel Xeon, 2026-11-27", "training, probe, bfloat16", "s"),
    ("Intel Xeon, 2026-11-27", "training, sib200, bfloat16", "s"),
    ("Intel Xeon, 2026-11-27", "generation, cot, bfloat16", "s"),
    ("NVIDIA H200", "a pass of letters, Qwen3 8B, compiled", "s"),
}


@pytest.fixture(scope="module")
def measured() -> list[Check]:
    return list(every_check())


def test_memory_is_within_15_percent_and_time_within_30(measured: list[Check]) -> None:
    assert len(measured) >= 48
    outside = {(check.machine, check.what, check.unit) for check in measured if not check.within}
    assert outside == MISSES


def test_predictions_are_not_biased(measured: list[Check]) -> None:
    for unit in ("s", "GB"):
        errors = [check.error for check in measured if check.unit == unit and check.within]
        assert abs(sum(errors) / len(errors)) < 0.06


def test_the_documentation_has_the_table() -> None:
    # Without trailing white space, which formatters may remove.
    assert page().strip() in DOCS.read_text("utf-8")
