"""Files of results in other encodings, layouts and company are read or named, never skipped."""

import bz2
import gzip
import json
import lzma
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from imported_files import DATA, NAMED, ROW, imported, inspect_log, lm_eval_folder, write_rows

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.importers.read_results import read_results

COLUMNS = ("model", "condition", "task", "format", "language", "item_id", "passage_id", "correct")
LINE = {**NAMED, **ROW}


def table(separator: str, *rows: dict[str, Any], line_end: str = "\n") -> str:
    lines = [COLUMNS, *([str(row[name]) for name in COLUMNS] for row in rows)]
    return "".join(separator.join(line) + line_end for line in lines)


def plain(rows: pd.DataFrame) -> list[tuple[str, bool]]:
    return list(zip(rows["item_id"], rows["correct"], strict=True))


ROWS = (LINE, LINE | {"item_id": "j", "correct": 0})
ANSWERS = [("i", True), ("j", False)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", table(";", *ROWS).encode()),
        ("a.csv", table("\t", *ROWS).encode()),
        ("a.tsv", table(",", *ROWS).encode()),
        ("a.CSV", table(",", *ROWS, line_end="\r\n").encode()),
        ("a.csv", table(",", *ROWS, line_end="\r").encode()),
        ("a.csv", b"\xef\xbb\xbf" + table(",", *ROWS).encode()),
        ("a.csv.gz", gzip.compress(table(";", *ROWS).encode())),
        ("a.csv", gzip.compress(table(",", *ROWS).encode())),
        ("a.JSONL", JSONL.encode()),
        ("a.jsonl.gz", gzip.compress(JSONL.encode())),
        ("a.JSONL.GZ", gzip.compress(JSONL.encode())),
        ("a.jsonl", b"\xef\xbb\xbf" + JSONL.replace("\n", "\r\n\r\n").encode()),
    ],
)
def test_a_table_is_read_whatever_its_separator_line_ends_and_compression(
    name: str, content: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / name).write_bytes(content)
    assert plain(imported(folder / name)) == ANSWERS
    write_rows(folder / "beside.jsonl", LINE | {"item_id": "k"})
    assert plain(imported(folder)) == [*ANSWERS, ("k", True)]


def test_a_categorical_column_of_parquet_is_its_text(tmp_path: Path) -> None:
    path = tmp_path / "a.PARQUET"
    pd.DataFrame(ROWS).astype({"item_id": "category", "language": "category"}).to_parquet(path)
    assert plain(imported(tmp_path)) == ANSWERS


def test_a_cell_may_be_longer_than_the_limit_of_pythons_csv(tmp_path: Path) -> None:
    text = "x" * 200_000
    path = tmp_path / "a.csv"
    path.write_text(table(",", LINE).replace("correct\n", "correct,text\n").rstrip() + f",{text}\n")
    assert imported(path)["text"].tolist() == [text]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", table(",", LINE).encode("utf-16"), "a.csv is UTF-16 text; save it as UTF-8"),
        ("a.jsonl", JSONL.encode("utf-16"), "a.jsonl is UTF-16 text"),
        ("a.jsonl", JSONL.encode() + b'{"a": "\xe9"}', "a.jsonl is not UTF-8 text in line 3"),
        ("a.csv", b"PK\x03\x04....", "a.csv is a zip archive or a workbook; unpack it"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd..", "a.jsonl is compressed by zstd"),
        ("a.jsonl", bz2.compress(b"{}"), "a.jsonl is compressed by bzip2"),
        ("a.jsonl", lzma.compress(b"{}"), "a.jsonl is compressed by xz"),
        (
            "a.jsonl.gz",
            gzip.compress(JSONL.encode() * 99)[:-20],
            "a.jsonl.gz is damaged or truncated",
        ),
        (
            "a.jsonl.gz",
            gzip.compress(b"x")[:-8] + b"12345678",
            "a.jsonl.gz is damaged or truncated",
        ),
        ("a.parquet", b"text", "a.parquet is not a Parquet table"),
        ("a.jsonl", b'{"a": 1, "b": 2, "a": 3}', "a.jsonl:1: the line is not JSON: the name 'a'"),
        ("a.jsonl", b'{"a": ' + b"[" * 99_999, "a.jsonl:1: the line is not JSON"),
        ("a.csv", b"a,b;c\n", "may be separated by ',' or ';'"),
        ("a.csv", b"", "a.csv:1: expected a line of column names but the file is empty"),
        ("a.jsonl", b"", "a.jsonl:1: expected a line of column names but the file is empty"),
        ("a.csv", table(",").encode(), "a.csv has no rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_also_beside_good_ones(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    write_rows(tmp_path / "0.jsonl", LINE)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        imported(tmp_path)


def test_columns_of_one_name_in_parquet_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table([[1], [0]], names=["correct", "correct"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="column names must be unique"):
        imported(tmp_path)


def test_files_that_are_not_read_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_rows(folder / "a.jsonl", LINE)
    for name in ("b.jsonl.zst", "c.csv.zip"):
        (folder / name).write_bytes(b"x")
    assert len(imported(folder)) == 1
    assert "2 files are not read" in caplog.text
    assert "b.jsonl.zst" in caplog.text


def test_halves_of_characters_are_replaced_in_generated_text_and_refused_in_ids(
    tmp_path: Path,
) -> None:
    path = write_rows(tmp_path / "a.jsonl", LINE | {"text": "so \ud83d"})
    assert imported(path)["text"].tolist() == ["so \ufffd"]
    whole = write_rows(tmp_path / "a.jsonl", LINE | {"text": "so \U0001f600"})
    assert imported(whole)["text"].tolist() == ["so \U0001f600"]
    for name in ("item_id", "passage_id", "model", "language"):
        write_rows(path, LINE | {name: "i\udc00"})
        with pytest.raises(DataError, match=rf"a.jsonl:1: {name} has .*half of a character"):
            imported(path)


@pytest.mark.parametrize("code", ["ar", "arb-Arab", "ara", "arb_arab", "ARB_ARAB"])
def test_other_codes_of_a_language_are_read(code: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", LINE | {"language": code})
    assert imported(path)["language"].tolist() == ["arb_Arab"]


def test_other_names_of_a_language_are_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", LINE | {"language": "arabic"})
    message = r"a.jsonl:1: unknown language 'arabic'; expected .*set language_names=arabic=CODE\."
    with pytest.raises(DataError, match=message):
        imported(path)
    read = imported(path, language_names="arabic=arb_Arab")
    assert read["language"].tolist() == ["arb_Arab"]


def test_an_eval_set_of_inspect_is_imported_beside_its_manifests(tmp_path: Path) -> None:
    path = inspect_log(tmp_path, lambda log: None)
    header = json.loads(path.read_text())
    del header["samples"]
    (tmp_path / "logs.json").write_text(json.dumps({path.name: header}))
    (tmp_path / "listing.json").write_text(json.dumps({path.name: {"status": "success"}}))
    (tmp_path / "eval-set.json").write_text(json.dumps({"eval_set_id": "x", "tasks": []}))
    assert len(imported(tmp_path, condition="base")) == 8
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(DataError, match=r"notes\.json is not a log of inspect_ai"):
        imported(tmp_path, condition="base")


def test_results_without_samples_say_what_is_missing(tmp_path: Path) -> None:
    lm_eval_folder(tmp_path).unlink()
    with pytest.raises(DataError, match=r"has no answers; expected samples_.* --log_samples"):
        imported(tmp_path, condition="base")


def test_compressed_samples_of_lm_eval_have_their_task_and_model(tmp_path: Path) -> None:
    path = lm_eval_folder(tmp_path)
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(path.read_bytes())
    path.unlink()
    ((run, rows),) = read_results(ImportConfig(path=str(tmp_path), condition="base")).items()
    assert (run.task, run.model, len(rows)) == ("belebele_local", "tiny", 4)


def dictionary_scores(log: dict[str, Any]) -> None:
    for number, sample in enumerate(log["samples"]):
        value = {"right": "C" if number % 2 else "I", "points": number % 3 == 0, "part": 0.5}
        sample["scores"] = {"grader.v2": {"value": value, "answer": "B"}}


def test_a_score_that_is_a_dictionary_is_named_by_scorer_and_key(tmp_path: Path) -> None:
    path = inspect_log(tmp_path, dictionary_scores)
    right = imported(path, condition="base", metric="grader.v2.right")["correct"]
    points = imported(path, condition="base", metric="grader.v2.points")["correct"]
    assert right.tolist() == [False, True] * 4
    assert points.tolist() == [True, False, False, True, False, False, True, False]
    listed = "grader.v2.right, grader.v2.points, grader.v2.part"
    with pytest.raises(DataError, match=f"set metric to one of the scorers {listed}"):
        imported(path, condition="base")
    with pytest.raises(DataError, match=f"has no score 'grader.v2'; it has {listed}"):
        imported(path, condition="base", metric="grader.v2")
    with pytest.raises(DataError, match=r"score must be 0, 1, true or false but is 0\.5"):
        imported(path, condition="base", metric="grader.v2.part")


def test_a_score_that_is_a_list_is_refused(tmp_path: Path) -> None:
    def change(log: dict[str, Any]) -> None:
        for sample in log["samples"]:
            sample["scores"]["choice"]["value"] = [1, 0]

    with pytest.raises(DataError, match="the scores choice are lists; expected one value"):
        imported(inspect_log(tmp_path, change), condition="base")


def test_duplicate_ids_within_a_language_are_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", LINE, LINE | {"language": "fra_Latn"}, LINE)
    with pytest.raises(DataError, match=r"a.jsonl:3: duplicate item 'i' in heb_Hebr"):
        imported(path)


def test_a_relative_path_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=f"; looked for at {tmp_path}/nowhere") as error:
        imported(Path("nowhere"))
    assert "mlflow run" not in str(error.value)
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(DataError, match="mlflow run starts in the project's folder"):
        imported(Path("nowhere"))
    with pytest.raises(DataError) as absolute:
        imported(tmp_path / "nowhere")
    assert "looked for" not in str(absolute.value)


def test_a_copy_of_the_results_of_a_real_run_gives_the_same_answers(tmp_path: Path) -> None:
    (samples,) = DATA.glob("samples_belebele*arb*")
    shutil.copy(samples, tmp_path / "a.jsonl")
    named = {"condition": "base", "model": "m", "task": "belebele_local"}
    first, second = imported(tmp_path, **named), imported(samples, **named)
    pd.testing.assert_frame_equal(first, second)
