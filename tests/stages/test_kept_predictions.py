"""Predictions that an interrupted evaluation left: used if they are whole and about these items."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import probe
from damage import DAMAGES

from isogloss.inference.predict import predict
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.table import frame
from isogloss.prompts.protocol import Protocol
from isogloss.stages.kept_predictions import kept_predictions
from isogloss.tasks import Item


@pytest.fixture
def items() -> list[Item]:
    return probe("heb_Hebr", "test", 4)


@pytest.fixture
def kept(tiny: LanguageModel, items: list[Item], tmp_path: Path) -> Path:
    path = tmp_path / "heb_Hebr.parquet"
    predictions = predict(tiny, items, Protocol("cloze"), "probe")
    path.write_bytes(frame(predictions).to_parquet(index=False))
    return path


def test_whole_predictions_are_used_as_they_are(kept: Path, items: list[Item]) -> None:
    table = kept_predictions(kept, items)
    pd.testing.assert_frame_equal(table, pd.read_parquet(kept))
    assert kept_predictions(kept.with_name("none.parquet"), items) is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_deleted(
    damage: str, kept: Path, items: list[Item], caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES[damage](kept)
    assert kept_predictions(kept, items) is None
    assert not kept.exists()
    assert caplog.messages == [
        f"{kept} is not used but computed again: it is not a whole Parquet file"
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda table: table.iloc[:3], "it has 3 rows, and 4 items are asked about"),
        (lambda table: table.iloc[:0], "it has 0 rows, and 4 items are asked about"),
        (lambda table: pd.concat([table, table]), "it has 8 rows, and 4 items are asked about"),
        (lambda table: table.iloc[::-1], "it is about other items"),
        (lambda table: table.assign(item_id="x"), "it is about other items"),
        (lambda table: table.assign(language="eng_Latn"), "it is about other items"),
        (lambda table: table.assign(answer=table["answer"] + 1), "it is about other items"),
        (lambda table: table.drop(columns="correct"), "it has no column 'correct'"),
    ],
)
def test_predictions_about_other_items_are_deleted(
    change: object, problem: str, kept: Path, items: list[Item], caplog: pytest.LogCaptureFixture
) -> None:
    change(pd.read_parquet(kept)).to_parquet(kept, index=False)
    assert kept_predictions(kept, items) is None
    assert not kept.exists()
    assert caplog.messages == [f"{kept} is not used but computed again: {problem}"]


def test_a_disk_that_cannot_be_read_is_not_taken_for_damage(
    kept: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(pd, "read_parquet", fail)
    with pytest.raises(OSError, match="Input/output error"):
        kept_predictions(kept, items)
    assert kept.exists()
