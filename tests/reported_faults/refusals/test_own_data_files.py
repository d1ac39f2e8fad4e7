"""Own data in other spellings, encodings and company are read or named, never skipped."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from isogloss.errors import ConfigError, DataError, IsoglossError
from isogloss.tasks import Item, items, languages_of, open_task

ROW = {"question": "Which?", "options": ["red", "blue"], "answer": 2}
CELLS = {"question": "Which?", "option_1": "red", "option_2": "blue", "answer": "2"}


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def separated(separator: str, line_end: str = "\n", **changed: str) -> bytes:
    cells = CELLS | changed
    return (separator.join(cells) + line_end + separator.join(cells.values()) + line_end).encode()


def parquet(path: Path, **types: str) -> None:
    pd.DataFrame([ROW]).astype(types).to_parquet(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with good data in English."""
    path = tmp_path / "exam"
    path.mkdir()
    (path / "eng_Latn.jsonl").write_bytes(jsonl(ROW))
    return path


def describe(folder: Path, **keys: Any) -> None:
    (folder / "task.yaml").write_text(yaml.safe_dump({"name": "quiz", **keys}))


def read(folder: Path, language: str = "fra_Latn") -> list[Item]:
    return items(open_task("files", str(folder)), language, "all", None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("fra_Latn.JSONL", jsonl(ROW)),
        ("fra_Latn.jsonl.gz", gzip.compress(jsonl(ROW))),
        ("fra_Latn.jsonl", gzip.compress(jsonl(ROW))),
        ("fra_Latn.Csv.GZ", gzip.compress(separated(","))),
        ("fra_Latn.csv", separated(";")),
        ("fra_Latn.csv", separated("\t", "\r\n")),
        ("fra_Latn.csv", separated(",", "\r")),
        ("fra_Latn.tsv", separated("\t")),
        ("fra_Latn.csv", b"\xef\xbb\xbf" + separated(";")),
        ("fra_Latn.csv", separated(";", question='"Which; one?"')),
    ],
)
def test_a_language_is_read_whatever_the_spelling_separator_and_compression(
    name: str, content: bytes, folder: Path
) -> None:
    (folder / name).write_bytes(content)
    assert open_task("files", str(folder)).languages == ("eng_Latn", "fra_Latn")
    [item] = read(folder)
    assert (item.options, item.answer) == (("red", "blue"), 1)


def test_a_passage_may_be_longer_than_the_limit_of_pythons_csv(folder: Path) -> None:
    (folder / "fra_Latn.csv").write_bytes(separated(",", passage="x" * 200_000))
    assert [len(item.passage) for item in read(folder)] == [200_000]


def test_a_categorical_column_of_parquet_is_its_text(folder: Path) -> None:
    parquet(folder / "fra_Latn.parquet", question="category")
    assert [item.question for item in read(folder)] == ["Which?"]


@pytest.mark.parametrize(
    "name",
    ["fra_Latn.json", "fra_Latn.xlsx", "fra_Latn.jsonl.zst", "fra_Latn.csv.zip", "fra_Latn.txt"],
)
def test_a_language_in_a_file_that_is_not_read_is_an_error(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"{name} cannot be read as data; expected fra_Latn with"):
        open_task("files", str(folder))
    describe(folder, languages=["eng_Latn"])  # says that French is not meant
    assert open_task("files", str(folder)).languages == ("eng_Latn",)


def test_a_folder_named_for_a_language_is_an_error(folder: Path) -> None:
    (folder / "fra_Latn").mkdir()
    parquet(folder / "fra_Latn" / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match="fra_Latn cannot be read as data"):
        open_task("files", str(folder))


def test_another_file_of_a_language_that_is_read_is_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "eng_Latn.jsonl.bak").write_bytes(b"x")
    (folder / "notes.csv").write_bytes(separated(","))
    assert open_task("files", str(folder)).languages == ("eng_Latn",)
    assert "eng_Latn.jsonl.bak is not read; eng_Latn.jsonl is read" in caplog.text
    assert "ignoring notes.csv, not named by a language code" in caplog.text


@pytest.mark.parametrize("name", ["fra-Latn", "FRA_LATN", "fra_latn"])
def test_another_spelling_of_a_code_is_an_error(name: str, folder: Path) -> None:
    (folder / f"{name}.jsonl").write_bytes(jsonl(ROW))
    with pytest.raises(ConfigError, match=rf"unknown language '{name}'; expected fra_Latn"):
        open_task("files", str(folder))


@pytest.mark.parametrize("name", ["fr", "french", "fra"])
def test_files_named_otherwise_are_listed(name: str, folder: Path) -> None:
    (folder / "eng_Latn.jsonl").rename(folder / f"{name}.jsonl")
    message = rf"has no file for any language but {name}\.jsonl; .*maps codes to names"
    with pytest.raises(DataError, match=message):
        open_task("files", str(folder))
    describe(folder, languages={"fra_Latn": name})
    assert open_task("files", str(folder)).languages == ("fra_Latn",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fra_Latn.csv", separated(",").decode().encode("utf-16"), "is UTF-16 text; save it as"),
        ("fra_Latn.csv", b"PK\x03\x04", "is a zip archive or a workbook"),
        ("fra_Latn.csv.gz", gzip.compress(separated(",") * 99)[:-9], "is damaged or truncated"),
        (
            "fra_Latn.jsonl",
            jsonl(ROW) + b'{"question": "a", "question": "b"}',
            "'question' occurs twice",
        ),
        ("fra_Latn.csv", separated(",").replace(b"option_2", b"option_1"), "names must be unique"),
        ("fra_Latn.jsonl", jsonl(ROW | {"question": "half \ud83d"}), "jsonl:1: question has"),
        ("fra_Latn.jsonl", jsonl(ROW | {"options": ["a", "b\udc00"]}), "jsonl:1: options 2 has"),
        ("fra_Latn.jsonl", jsonl(ROW | {"question": float("nan")}), "must be text but is nan"),
        ("fra_Latn.jsonl", b"", "has no items of split 'all' in fra_Latn"),
        ("fra_Latn.csv", b"question,answer\n", "has no items of split 'all' in fra_Latn"),
        ("fra_Latn.csv", b"", "expected a line of column names but the file is empty"),
        (
            "fra_Latn.jsonl",
            jsonl(ROW | {"answer": 0}),
            "answer_from in task.yaml, here 1, says how",
        ),
        ("fra_Latn.jsonl", jsonl(ROW | {"answer": "B"}), "exactly one of 1, 2 but is 'B'"),
        ("fra_Latn.jsonl", jsonl(ROW | {"answer": "blue"}), "exactly one of 1, 2 but is 'blue'"),
        ("fra_Latn.jsonl", jsonl(ROW | {"answer": True}), "answer must be text but is True"),
        ("fra_Latn.jsonl", jsonl(ROW | {"split": ["test"]}), r"but is \['test'\]"),
        (
            "fra_Latn.jsonl",
            jsonl(ROW | {"item_id": "1"}, ROW | {"item_id": 1}),
            r"jsonl:2: duplicate item '1'; the first is at .*:1",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_file_and_line(
    name: str, content: bytes, message: str, folder: Path
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(IsoglossError, match=message):
        read(folder)


def test_ids_are_kept_as_they_are_written(folder: Path) -> None:
    rows = (ROW | {"item_id": "01"}, ROW | {"item_id": 1}, ROW | {"item_id": "1.0"})
    (folder / "fra_Latn.jsonl").write_bytes(jsonl(*rows))
    assert {item.item_id for item in read(folder)} == {"01", "1", "1.0"}


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("cafe\u0301", "caf\u00e9"),
        ("red", "red "),
        (" red", "red"),
    ],
)
def test_an_answer_as_text_may_differ_in_composition_and_spaces_at_its_ends(
    option: str, answer: str, folder: Path
) -> None:
    describe(folder, answer_from="text")
    row = ROW | {"options": ["blue", option], "answer": answer}
    (folder / "fra_Latn.jsonl").write_bytes(jsonl(row))
    [item] = read(folder)
    assert (item.answer, item.options[1]) == (1, option)
    ambiguous = row | {"options": [option, option]}
    (folder / "fra_Latn.jsonl").write_bytes(jsonl(ambiguous))
    with pytest.raises(DataError, match="must be exactly one of"):
        read(folder)


def test_task_yaml_names_the_column_of_the_split(folder: Path) -> None:
    rows = [ROW | {"part": part, "passage_id": part} for part in ("tr", "va", "te")]
    (folder / "fra_Latn.jsonl").write_bytes(jsonl(*rows))
    splits = {"train": "tr", "dev": "va", "test": "te"}
    describe(folder, columns={"split": "part"}, splits=splits, languages=["fra_Latn"])
    task = open_task("files", str(folder))
    for split, value in splits.items():
        assert [item.passage_id for item in items(task, "fra_Latn", split, None)] == [value]
    describe(folder, columns={"split": "part"}, languages=["fra_Latn"])
    with pytest.raises(DataError, match="part must be one of train, dev, test but is 'tr'"):
        read(folder)
    describe(folder, columns={"split": "fold"}, languages=["fra_Latn"])
    with pytest.raises(DataError, match="there is no column fold; the columns are"):
        read(folder)


def test_a_data_set_that_needs_a_script_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "exam.py").write_text("")
    hub = str(tmp_path)
    (tmp_path / f"{tmp_path.name}.py").write_text("import datasets")
    describe(folder, hub=hub, languages=["eng_Latn"], config="{language}")
    with pytest.raises(DataError, match=r"needs a script of the data set, .* refs/convert"):
        read(folder, "eng_Latn")


@pytest.mark.parametrize("name", ["eng_Latn.JSONL", "eng_Latn.jsonl.gz", "eng_Latn.parquet"])
def test_belebele_is_read_in_each_spelling(name: str, tmp_path: Path) -> None:
    row = {
        "link": "l", "question_number": 1, "flores_passage": "p", "question": "q",
        "mc_answer1": "a", "mc_answer2": "b", "mc_answer3": "c", "mc_answer4": "d",
        "correct_answer_num": "3",
    }  # fmt: skip
    folder = tmp_path / "belebele"
    folder.mkdir()
    (folder / "fra_Latn.jsonl").write_bytes(jsonl(row))
    if name.endswith("parquet"):
        pd.DataFrame([row]).to_parquet(folder / name)
    else:
        content = jsonl(row)
        (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    task = open_task("belebele", str(folder))
    assert languages_of(task, None) == ("eng_Latn", "fra_Latn")
    [item] = items(task, "eng_Latn", "all", None)
    assert (item.item_id, item.answer) == ("l#1", 2)
    (folder / "deu_Latn.json").write_bytes(b"[]")
    with pytest.raises(DataError, match=r"deu_Latn\.json cannot be read as data; expected deu_"):
        open_task("belebele", str(folder))


def test_sib200_is_read_in_each_spelling_and_names_what_it_lacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "sib200"
    content = b"index_id\tcategory\ttext\n1\ttravel\tA sentence.\n"
    for code, name in (("eng_Latn", "test.tsv"), ("fra_Latn", "TEST.tsv.gz")):
        (folder / code).mkdir(parents=True)
        (folder / code / name.lower()).write_bytes(
            gzip.compress(content) if name.endswith("gz") else content
        )
    (folder / "deu_Latn").mkdir()
    task = open_task("sib200", str(folder))
    assert task.languages == ("eng_Latn", "fra_Latn")
    assert "sib200 finds no test.tsv in deu_Latn" in caplog.text
    assert [item.item_id for item in items(task, "fra_Latn", "test", None)] == ["1"]
    (folder / "deu_Latn" / "test.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match=r"test\.parquet cannot be read as data; expected test wi"):
        open_task("sib200", str(folder))
    shutil.rmtree(folder / "deu_Latn")


@pytest.mark.parametrize("task", ["files", "belebele", "sib200"])
def test_a_relative_data_dir_says_where_it_was_looked_for(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    message = f"looked for at {tmp_path}/nowhere .mlflow run starts in the project's folder"
    with pytest.raises(IsoglossError, match=message):
        open_task(task, "nowhere")
