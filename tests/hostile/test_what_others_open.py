"""What goes to spreadsheets, to the Hub and to a server's memory."""

import time
from pathlib import Path

import pandas as pd
import pytest

from isogloss.analysis.frames import csv_text
from isogloss.files import make_cache_dir
from isogloss.models.locate import ModelLocation
from isogloss.prompts.answer_parser import answer_start, parse_answer
from isogloss.registry.cards import licence_of, without_header


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("-2.5", "-2.5"),
        ("a=b", "a=b"),
    ],
)
def test_no_cell_of_a_table_is_a_formula(name: str, cell: str) -> None:
    text = csv_text(pd.DataFrame({"model": [name], "gain": [-0.25]}))
    assert text == f"model,gain\n{cell},-0.25\n"


def test_rules_in_a_card_do_not_end_its_header(tmp_path: Path) -> None:
    assert without_header("---\nbase_model: /data/a---b\n---\n\n# Card\n\n---\n") == "# Card\n\n---"
    (tmp_path / "README.md").write_text("---\nbase: a---b\nlicense: mit\n---\n# x\n")
    assert licence_of(ModelLocation("m", tmp_path, "0")) == "mit"
    (tmp_path / "README.md").write_text("---\nlicense: &a [*a]\n---\n")
    assert licence_of(ModelLocation("m", tmp_path, "0")) == "unknown"


@pytest.mark.parametrize("text", ["Answer: ", "answer is ", "A or B ", "1) ", "(A) ", "**Answer**"])
def test_a_text_that_repeats_itself_is_read_in_seconds(text: str) -> None:
    begun = time.monotonic()
    parse_answer(text * 2048, ("one", "two", "three", "four"))
    answer_start(text * 2048)
    assert time.monotonic() - begun < 5
    assert parse_answer(text * 200 + "\nAnswer: B", ("one", "two", "three", "four")) == 1


def test_the_cache_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "new" / "cache"))
    assert make_cache_dir().stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "shared"))
    assert make_cache_dir().stat().st_mode & 0o777 == 0o755
