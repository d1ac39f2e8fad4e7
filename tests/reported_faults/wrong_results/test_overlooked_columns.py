"""No column of own data is overlooked without a word, and no id of SIB-200 means two sentences."""

import json
from pathlib import Path

import pytest

from isogloss.errors import DataError
from isogloss.tasks import Item, items, open_task
from isogloss.types import Split

ROW = {"question": "What?", "options": ["one", "two"], "answer": 1}


def read(folder: Path, *rows: dict[str, object]) -> list[Item]:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "eng_Latn.jsonl").write_text(text)
    return items(open_task("files", str(folder)), "eng_Latn", Split.ALL, None)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Passage", "passage"),
        ("passage ", "passage"),
        ("Passage-ID", "passage_id"),
        ("itemId", "item_id"),
        ("SPLIT", "split"),
        ("option_03", "options, or option_1"),
        ("Option 3", "options, or option_1"),
    ],
)
def test_a_name_that_is_almost_ours(name: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"jsonl:1: the column '{name}' .* to {meant}"):
        read(tmp_path, {**ROW, name: "train"})


def test_another_column_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(read(tmp_path, {**ROW, "context": "A text."})) == 1
    assert f"the columns context of task {tmp_path.name!r} are not read" in caplog.text
    caplog.clear()
    assert len(read(tmp_path, {**ROW, "passage": "A text."})) == 1
    assert "not read" not in caplog.text


def test_a_column_that_task_yaml_names_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("name: own\ncolumns: {passage: Passage}\n")
    (item,) = read(tmp_path, {**ROW, "Passage": "A text."})
    assert item.passage == "A text."


@pytest.mark.parametrize("name", ["passage", "passage_id", "item_id"])
def test_a_row_without_a_column_that_others_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"jsonl:2: there is no column {name}, which other rows"):
        read(tmp_path, {**ROW, name: "text"}, {**ROW, "question": "Who?"})
    assert len(read(tmp_path, {**ROW, "passage": "A text."}, {**ROW, "passage": None})) == 2


def test_an_id_in_two_files_of_sib200(tmp_path: Path) -> None:
    folder = tmp_path / "eng_Latn"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        text = f"index_id\tcategory\ttext\n7\ttravel\tA sentence of {split}.\n"
        (folder / f"{split}.tsv").write_text(text)
    task = open_task("sib200", str(tmp_path))
    assert len(items(task, "eng_Latn", Split.TEST, None)) == 1
    with pytest.raises(DataError, match="index_id 7 in two files of eng_Latn"):
        items(task, "eng_Latn", Split.ALL, None)
