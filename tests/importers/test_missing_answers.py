"""Answers that are missing are refused, or left out if the user says so."""

import math
from pathlib import Path
from typing import Any

import pytest
from imported_files import NAMED, ROW, imported, inspect_log, write_rows

from isogloss.errors import DataError


def with_gaps(log: dict[str, Any]) -> None:
    """One sample of the log failed, one has no score, one was not scored."""
    samples = log["samples"]
    samples[1] |= {"error": {"message": "boom"}, "scores": {}}
    samples[2]["scores"] = {}
    samples[5]["scores"]["choice"]["value"] = math.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"error": {"message": "boom"}}, "'arb_Arab-1' failed: 'boom'; set missing=drop"),
        ({"scores": None}, "has no score .`inspect score` scores a log without scores.; set mis"),
    ],
)
def test_a_sample_of_inspect_without_an_answer_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = inspect_log(tmp_path, lambda log: log["samples"][1].update(change))
    with pytest.raises(DataError, match=message):
        imported(path, condition="base")


def test_samples_of_inspect_without_an_answer_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = imported(inspect_log(tmp_path, lambda log: None), condition="base")
    rest = imported(inspect_log(tmp_path, with_gaps), condition="base", missing="drop")
    gone = ["arb_Arab-1", "arb_Arab-2", "heb_Hebr-1"]
    assert rest["item_id"].tolist() == [i for i in whole["item_id"] if i not in gone]
    kept = whole[~whole["item_id"].isin(gone)].reset_index(drop=True)
    assert rest["correct"].tolist() == kept["correct"].tolist()
    assert "3 of 8 answers are missing and left out (arb_Arab 2, heb_Hebr 1)" in caplog.text


def test_an_infinite_score_is_not_a_missing_one(tmp_path: Path) -> None:
    def change(log: dict[str, Any]) -> None:
        log["samples"][5]["scores"]["choice"]["value"] = -math.inf

    with pytest.raises(DataError, match="is -inf, which is not a score"):
        imported(inspect_log(tmp_path, change), condition="base", missing="drop")


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_cell_of_a_table_is_left_out(empty: object, tmp_path: Path) -> None:
    rows = (ROW | NAMED, ROW | NAMED | {"item_id": "j", "correct": empty})
    path = write_rows(tmp_path / "a.jsonl", *rows)
    with pytest.raises(DataError, match=r"a\.jsonl:2: correct must be .*; set missing=drop to"):
        imported(path)
    assert imported(path, missing="drop")["item_id"].tolist() == ["i"]
    write_rows(path, rows[1])
    with pytest.raises(DataError, match="has no answers"):
        imported(path, missing="drop")
    write_rows(path, rows[0], rows[1] | {"correct": math.nan})
    with pytest.raises(DataError, match="correct of item 'j' in heb_Hebr is nan"):
        imported(path, missing="drop")
