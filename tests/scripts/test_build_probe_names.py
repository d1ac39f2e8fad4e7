"""Names of the probe's fillers: a language is added without touching the others."""

import csv
from pathlib import Path

import pytest

from isogloss.tasks import probe
from scripts import build_probe_names as build

COMMITTED = build.NAMES.read_text(encoding="utf-8")


@pytest.fixture
def table(tmp_path):
    """A copy of the table without Turkish and Swahili, and with another name in Hausa."""
    comment, *lines = COMMITTED.splitlines()
    rows = list(csv.DictReader(lines))
    kept = [name for name in rows[0] if name not in ("swh_Latn", "tur_Latn")]
    file = tmp_path / "names.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        out.write(comment + "\n")
        writer = csv.DictWriter(out, kept, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "hau_Latn": "as corrected"} for row in rows)
    return file


def columns(text: str) -> dict[str, list[str]]:
    rows = list(csv.reader(line for line in text.splitlines() if not line.startswith("#")))
    return {name: list(cells) for name, *cells in zip(*rows, strict=True)}


def test_columns_are_added_and_others_stay_as_they_are(table):
    assert build.update(table, rewrite=False) == ["swh_Latn", "tur_Latn"]
    text = table.read_text(encoding="utf-8")
    expected = columns(COMMITTED)
    expected["hau_Latn"] = ["as corrected"] * len(expected["hau_Latn"])
    assert columns(text) == expected
    assert list(columns(text)) == ["placeholder", "id", *probe.languages()]
    assert text.splitlines()[1].startswith("# Names of swh_Latn, tur_Latn from CLDR ")


def test_a_table_that_lacks_nothing_stays_as_it_is(tmp_path: Path):
    file = tmp_path / "names.csv"
    file.write_text(COMMITTED, encoding="utf-8")
    assert build.update(file, rewrite=False) == []
    assert file.read_text(encoding="utf-8") == COMMITTED


def test_with_the_pinned_babel_all_columns_are_the_committed_ones(table):
    assert build.update(table, rewrite=True) == list(probe.languages())
    assert table.read_text(encoding="utf-8") == COMMITTED
