"""The user's own data: from a folder in three formats, described in YAML, from the Hub."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isogloss.errors import ConfigError, DataError, IsoglossError
from isogloss.tasks import Item, Task, items, open_task, parallel_items
from isogloss.tasks.splits import split_of

ROOT = Path(__file__).parents[2]


def row(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "passage": f"Passage {number // 2}.",
        "question": f"Question {number}?",
        "options": ["red", "blue", "green"],
        "answer": 1 + number % 3,
    } | changed


def numbered(values: dict[str, Any], columns: int = 4) -> dict[str, Any]:
    """The row with one column per option, the last ones empty."""
    options = values["options"] + [""] * (columns - len(values["options"]))
    named = {f"option_{number}": option for number, option in enumerate(options, start=1)}
    return {name: value for name, value in values.items() if name != "options"} | named


def write_jsonl(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(values, ensure_ascii=False) + "\n" for values in rows)
    (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def write_csv(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    rows = [numbered(values) for values in rows]
    with (folder / f"{name}.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def describe(folder: Path, /, **keys: Any) -> Path:
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump({"name": "exam"} | keys), encoding="utf-8")
    return path


def opened(data_dir: Path) -> Task:
    return open_task("files", str(data_dir))


def read(folder: Path, rows: list[dict[str, Any]], **keys: Any) -> list[Item]:
    """All items of a folder with these rows in English, sorted by number."""
    write_jsonl(folder, "eng_Latn", rows)
    if keys:
        describe(folder, **keys)
    found = items(opened(folder), "eng_Latn", "all", None)
    return sorted(found, key=lambda item: int(item.item_id))


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet])
def test_a_folder_of_canonical_columns_is_read_in_each_format(
    tmp_path: Path, write: Callable[[Path, str, list[dict[str, Any]]], None]
) -> None:
    folder = tmp_path / "exam"
    folder.mkdir()
    rows = [row(number) for number in range(4)]
    rows[2]["question"] = 'A "quoted", long\nquestion? '
    for code in ("fra_Latn", "eng_Latn"):
        write(folder, code, rows)
    (folder / "README.md").write_text("notes")
    write_csv(folder, "notes", rows)
    task = opened(folder)
    assert (task.name, task.languages) == ("exam", ("eng_Latn", "fra_Latn"))
    assert (task.format, task.normalisation, task.parallel) == ("letter", "length", True)
    found = parallel_items(task, task.languages, "all", None)["fra_Latn"]
    found.sort(key=lambda item: item.item_id)
    assert [item.item_id for item in found] == ["1", "2", "3", "4"]
    assert [item.passage_id for item in found] == ["1", "1", "3", "3"]
    assert found[2] == Item(
        item_id="3",
        passage_id="3",
        language="fra_Latn",
        passage="Passage 1.",
        question='A "quoted", long\nquestion? ',
        options=("red", "blue", "green"),
        answer=2,
    )


def test_columns_of_other_names_and_options_in_columns_are_described_in_yaml(
    tmp_path: Path,
) -> None:
    values = {"no": 7, "doc": "d", "text": "T.", "q": "Q?", "a": "x", "b": "y", "key": "b"}
    columns = {
        "item_id": "no",
        "passage_id": "doc",
        "passage": "text",
        "question": "q",
        "options": ["a", "b"],
        "answer": "key",
    }
    [item] = read(
        tmp_path,
        [values],
        columns=columns,
        answer_from="letter",
        format="cloze",
        normalisation="unconditional",
        parallel=False,
    )
    assert item == Item("7", "d", "eng_Latn", "T.", "Q?", ("x", "y"), 1)
    task = opened(tmp_path / "task.yaml")
    assert (task.name, task.format, task.normalisation) == ("exam", "cloze", "unconditional")
    assert task.parallel is False


def test_a_yaml_file_elsewhere_names_the_folder_and_the_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data", "english", [row(1)])
    path = describe(tmp_path, folder="data", languages={"eng_Latn": "english"})
    task = opened(path.rename(tmp_path / "exam.yml"))
    assert task.languages == ("eng_Latn",)
    assert items(task, "eng_Latn", "all", None)[0].language == "eng_Latn"


def test_listed_languages_leave_out_other_files(tmp_path: Path) -> None:
    for code in ("eng_Latn", "fra_Latn"):
        write_jsonl(tmp_path, code, [row(1)])
    describe(tmp_path, languages=["fra_Latn"])
    assert opened(tmp_path).languages == ("fra_Latn",)


@pytest.mark.parametrize(
    ("answer_from", "answer"),
    [(0, 1), (0, "1"), (1, 2), (1, " 2 "), ("letter", "B"), ("letter", "b"), ("text", "blue")],
)
def test_the_answer_is_a_number_a_letter_or_the_option_itself(
    tmp_path: Path, answer_from: Any, answer: Any
) -> None:
    [item] = read(tmp_path, [row(1, answer=answer)], answer_from=answer_from)
    assert item.answer == 1


def test_options_may_be_whole_numbers_and_passages_may_be_missing(tmp_path: Path) -> None:
    rows = [row(1, options=[1, 2]), row(2, passage=None), row(3, passage="")]
    first, second, third = read(tmp_path, rows)
    assert first.options == ("1", "2")
    assert (second.passage, third.passage) == ("", "")
    assert (second.passage_id, third.passage_id) == ("2", "3")


def test_empty_lines_are_skipped_but_counted_in_line_numbers(tmp_path: Path) -> None:
    lines = [json.dumps(row(1)), "", json.dumps(row(2, answer=9))]
    (tmp_path / "eng_Latn.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=r"eng_Latn\.jsonl:3: answer must be exactly one of 1, 2"):
        items(opened(tmp_path), "eng_Latn", "all", None)


def test_the_column_split_decides_under_our_names_or_described_ones(tmp_path: Path) -> None:
    rows = [row(2 * number, split=split) for number, split in enumerate(("train", "dev", "test"))]
    write_jsonl(tmp_path, "eng_Latn", rows)
    for split, number in (("train", "1"), ("dev", "2"), ("test", "3")):
        assert [item.item_id for item in items(opened(tmp_path), "eng_Latn", split, None)] == [
            number
        ]
    describe(tmp_path, splits={"train": "dev", "test": "test", "dev": "train"})
    assert items(opened(tmp_path), "eng_Latn", "train", None)[0].item_id == "2"


BAD_ROWS = [
    (row(2, options=["one"]), "an item must have 2 to 10 options but this one has 1"),
    (row(2, options=list("abcdefghijk")), "an item must have 2 to 10 options but this one has 11"),
    (row(2, options=["a", " ", "c"]), "option 2 is empty"),
    (row(2, options=["a", None]), "options 2 must be text but is None"),
    (row(2, options="abc"), "options must be a list but is 'abc'"),
    (numbered(row(2)) | {"option_2": ""}, "option 2 is empty"),
    ({"question": "?", "answer": 1}, "there is no column options, nor option_1"),
    (
        {"question": "?", "answer": 1, "option_1": "a", "option_3": "c"},
        "there is no column option_2",
    ),
    (row(2, question=" "), "question is empty"),
    (row(2, question=None), "question must be text but is None"),
    (row(2, answer=0), "answer must be exactly one of 1, 2, 3 but is '0'"),
    (row(2, answer=4), "answer must be exactly one of 1, 2, 3 but is '4'"),
    (row(2, answer=1.0), "answer must be text but is 1.0"),
    (row(2, answer=True), "answer must be text but is True"),
    (row(2, answer="A"), "answer must be exactly one of 1, 2, 3 but is 'A'"),
    (row(2, item_id="1"), "duplicate item '1'; the first is at .*:1"),
    (row(2, item_id=""), "item_id is empty"),
    (row(2, passage_id="1"), "the text of passage '1' differs from that at .*:1"),
    (row(2, passage=["Text."]), "passage must be text but is"),
    (
        {"options": ["a", "b"], "answer": 1},
        "there is no column question; the columns are options, answer",
    ),
    ({"options": ["a", "b"], "question": "?"}, "there is no column answer"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ROWS, ids=[message for _, message in BAD_ROWS])
def test_a_bad_row_is_named_with_file_and_line(
    tmp_path: Path, bad: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=rf"eng_Latn\.jsonl:2: {message}"):
        read(tmp_path, [row(0), bad])


@pytest.mark.parametrize(
    ("keys", "changed", "message"),
    [
        ({"answer_from": 0}, {"answer": 3}, "answer must be exactly one of 0, 1, 2 but is '3'"),
        ({"answer_from": "letter"}, {"answer": "D"}, "one of A, B, C but is 'D'"),
        ({"answer_from": "letter"}, {"answer": 1}, "one of A, B, C but is '1'"),
        ({"answer_from": "text"}, {"answer": "pink"}, "one of red, blue, green but is 'pink'"),
        (
            {"answer_from": "text"},
            {"answer": "red", "options": ["red", "red"]},
            "one of red, red but is 'red'",
        ),
        ({"columns": {"passage": "text"}}, {}, "there is no column text; the columns are passage"),
        ({"columns": {"item_id": "no"}}, {}, "there is no column no"),
        ({"columns": {"options": ["a", "b"]}}, {}, "there is no column a"),
        ({"splits": {"test": "t"}}, {}, "there is no column split"),
        ({"splits": {"test": "t"}}, {"split": "test"}, "split must be one of t but is 'test'"),
    ],
)
def test_a_row_that_is_not_as_described_is_named_with_file_and_line(
    tmp_path: Path, keys: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=rf"eng_Latn\.jsonl:1: .*{message}"):
        read(tmp_path, [row(0, **changed)], **keys)


def test_a_missing_or_unknown_split_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"jsonl:2: there is no column split"):
        read(tmp_path, [row(0, split="train"), row(2)])
    with pytest.raises(DataError, match=r"jsonl:1: split must be one of train, dev, test but is"):
        read(tmp_path, [row(0, split="validation")])


def test_a_passage_in_two_splits_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r":2: passage '1' is in test here but in train at .*:1"):
        read(tmp_path, [row(0, split="train"), row(1, split="test")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"question,answer\n\xff,1\n", r"eng_Latn\.csv is not UTF-8 text"),
        (b"", r"eng_Latn\.csv:1: expected a line of column names"),
        (b"question,question\n?,1\n", r"eng_Latn\.csv:1: column names must be unique"),
        (b"question,answer\n\n?,1,2\n", r"eng_Latn\.csv:3: 3 values but 2 columns"),
        (b'question,answer\n"a\nb",1\n"?" x,1\n', r"eng_Latn\.csv:4: the row cannot be read"),
        (b"question,answer\n?,1\n", r"eng_Latn\.csv:2: there is no column options"),
        (b'question,options,answer\n?,"[1, 2]",1\n', r"csv:2: options must be a list but is '\[1"),
    ],
)
def test_an_invalid_csv_file_is_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "eng_Latn.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        items(opened(tmp_path), "eng_Latn", "all", None)


def test_an_invalid_parquet_file_is_rejected(tmp_path: Path) -> None:
    write_parquet(tmp_path, "eng_Latn", [row(0), row(2, answer=9)])
    with pytest.raises(DataError, match=r"eng_Latn\.parquet row 2: answer must be exactly one of"):
        items(opened(tmp_path), "eng_Latn", "all", None)
    (tmp_path / "eng_Latn.parquet").write_text("question")
    with pytest.raises(DataError, match=r"eng_Latn\.parquet is not a Parquet table"):
        items(opened(tmp_path), "eng_Latn", "all", None)


def test_missing_ambiguous_and_unknown_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no file for any language; expected names such as"):
        opened(tmp_path)
    write_jsonl(tmp_path, "eng_Latn", [row(1)])
    write_csv(tmp_path, "eng_Latn", [row(1)])
    with pytest.raises(DataError, match=r"has eng_Latn\.csv and eng_Latn\.jsonl for eng_Latn"):
        opened(tmp_path)
    (tmp_path / "eng_Latn.csv").rename(tmp_path / "xxx_Xxxx.csv")
    with pytest.raises(ConfigError, match="unknown language 'xxx_Xxxx'"):
        opened(tmp_path)
    describe(tmp_path, languages=["eng_Latn", "fra_Latn"])
    with pytest.raises(DataError, match=r"has no file fra_Latn with \.jsonl, \.csv, \.tsv, \.pa"):
        opened(tmp_path)
    (tmp_path / "fra_Latn.jsonl").mkdir()
    with pytest.raises(DataError, match=r"fra_Latn\.jsonl cannot be read: Is a directory"):
        items(opened(tmp_path), "fra_Latn", "all", None)
    describe(tmp_path, folder="nowhere")
    with pytest.raises(DataError, match=r"folder .*nowhere of task 'exam' does not exist"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("data_dir", "message"),
    [
        (None, "task 'files' needs data_dir"),
        ("nowhere", "data_dir 'nowhere' is neither a folder nor a YAML file"),
        ("notes.txt", r"data_dir 'notes\.txt' is neither"),
        ("sib200", "data_dir 'sib200': name is invalid: 'sib200' is the name of a built-in task"),
    ],
)
def test_an_invalid_data_dir_is_rejected(
    tmp_path: Path, data_dir: str | None, message: str
) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "sib200").mkdir()
    with pytest.raises(ConfigError, match=message):
        open_task("files", data_dir)


HUB = {"hub": "someone/exam", "languages": ["eng_Latn"]}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"formt": "letter"}, "unknown field 'formt'"),
        ({"columns": {"anwser": "key"}}, r"unknown field .columns\.anwser."),
        ({"columns": {"options": ["a"]}}, r"columns\.options.* is invalid"),
        ({"name": ""}, "name is invalid"),
        ({"name": "belebele"}, "'belebele' is the name of a built-in task"),
        ({"format": "essay"}, "format is invalid"),
        ({"normalisation": "words"}, "normalisation is invalid"),
        ({"answer_from": 2}, "answer_from is invalid"),
        ({"languages": ["english"]}, "'english' is not a FLORES-200 code"),
        ({"languages": [True]}, "languages is invalid: True is not a FLORES-200 code"),
        ({"languages": ["eng_Latn", []]}, r"languages is invalid: \[\] is not a FLORES-200 code"),
        ({"languages": {"eng_Latn": 7}}, "languages.eng_Latn is invalid"),
        ({"languages": []}, "languages is invalid"),
        ({"splits": {"validation": "dev"}}, "splits.validation"),
        ({"splits": {"dev": "x", "test": "x"}}, "splits maps two splits to one"),
        ({"revision": "main"}, "revision needs hub, the name of a data set"),
        ({"config": "{language}"}, "config needs hub"),
        ({"data_files": "{language}.csv"}, "data_files needs hub"),
        (HUB | {"folder": "data", "config": "{language}"}, "folder and hub are both set"),
        ({"hub": "someone/exam", "config": "{language}"}, "hub needs languages"),
        (HUB, "hub needs one of config and data_files"),
        (HUB | {"config": "{language}", "data_files": "{language}"}, "needs one of config and"),
        (HUB | {"config": "en"}, "config or data_files must contain {language}"),
        (HUB | {"data_files": "{language}/{split}.csv"}, "if splits is set, and only then"),
        (HUB | {"data_files": "{language}", "splits": {"dev": "x"}}, "if splits is set, and"),
    ],
)
def test_an_invalid_description_is_rejected_with_file_and_field(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    write_jsonl(tmp_path, "eng_Latn", [row(1)])
    describe(tmp_path, **keys)
    with pytest.raises(ConfigError, match=rf"task\.yaml: .*{message}"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"name: [", "is not YAML"), (b"\xff", "is not UTF-8"), (b"exam", "the content is invalid")],
)
def test_a_description_that_is_not_a_yaml_mapping_is_rejected(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "task.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"task\.yaml:? {message}"):
        opened(tmp_path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    questions=st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 99)), min_size=1, max_size=20, unique=True
    ),
    seed=st.randoms(),
)
def test_no_passage_of_train_is_in_dev_or_test_in_any_language(
    tmp_path: Path, questions: list[tuple[int, int]], seed: Any
) -> None:
    for code in ("eng_Latn", "fra_Latn"):
        seed.shuffle(questions)
        rows = [
            row(
                0, passage=f"{passage} in {code}", passage_id=passage, item_id=f"{passage}-{number}"
            )
            for passage, number in questions
        ]
        write_jsonl(tmp_path, code, rows)
    task = opened(tmp_path)
    ids: dict[str, list[str]] = {}
    for split in ("train", "dev", "test"):
        one, two = (task.read(code, split) for code in task.languages)
        assert [item.item_id for item in one] == [item.item_id for item in two]
        assert all(split_of(item.passage_id) == split for item in (*one, *two))
        ids[split] = [item.item_id for item in one]
    assert sum(map(len, ids.values())) == len(questions)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out as a data set on the Hub: one configuration per language, named splits."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "someone-exam"
    configs = []
    for name in ("en", "fr"):
        (folder / name).mkdir(parents=True)
        for start, split in ((0, "train"), (4, "validation"), (8, "test")):
            write_jsonl(folder / name, split, [row(start), row(start + 1)])
        splits = [
            {"split": split, "path": f"{name}/{split}.jsonl"}
            for split in ("train", "validation", "test")
        ]
        configs.append({"config_name": f"exam-{name}", "data_files": splits})
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    return folder


NAMES = {"eng_Latn": "en", "fra_Latn": "fr"}
SPLITS = {"train": "train", "dev": "validation", "test": "test"}


@pytest.mark.parametrize(
    "where", [{"config": "exam-{language}"}, {"data_files": "{language}/{split}.jsonl"}]
)
def test_the_hub_is_read_by_configuration_or_by_files_with_its_splits(
    hub: Path, tmp_path: Path, where: dict[str, str]
) -> None:
    describe(tmp_path, hub=str(hub), languages=NAMES, splits=SPLITS, **where)
    task = opened(tmp_path)
    assert (task.name, task.languages) == ("exam", ("eng_Latn", "fra_Latn"))
    for split, question in (("train", "Question 0?"), ("dev", "Question 4?"), ("test", None)):
        found = parallel_items(task, task.languages, split, None)["fra_Latn"]
        assert sorted(item.item_id for item in found) == [f"{split}-1", f"{split}-2"]
        assert {item.passage_id for item in found} == {f"{split}-1"}
        assert question is None or question in {item.question for item in found}


def test_one_split_of_the_hub_is_split_by_passage(hub: Path, tmp_path: Path) -> None:
    describe(tmp_path, hub=str(hub), languages=NAMES, data_files="{language}/train.jsonl")
    found = parallel_items(opened(tmp_path), ("eng_Latn", "fra_Latn"), "all", None)
    assert sorted(item.item_id for item in found["eng_Latn"]) == ["1", "2"]
    assert items(opened(tmp_path), "eng_Latn", split_of("1"), None) == found["eng_Latn"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"config": "exam-{language}"}, r"has the splits train, validation, test; name those for"),
        (
            {"config": "exam-{language}", "splits": {"dev": "dev"}},
            r"exam-en has no split 'dev'; it has train, validation, test",
        ),
        ({"config": "quiz-{language}"}, r"quiz-en cannot be loaded from the Hub"),
        ({"data_files": "{language}/none.jsonl"}, r"none\.jsonl cannot be loaded from the Hub"),
        ({"hub": "someone/nowhere", "config": "{language}"}, r"someone/nowhere en cannot be load"),
    ],
)
def test_a_data_set_split_or_file_missing_on_the_hub_is_named(
    hub: Path, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    describe(tmp_path, **({"hub": str(hub), "languages": NAMES} | keys))
    with pytest.raises(DataError, match=message):
        items(opened(tmp_path), "eng_Latn", "test", None)


def test_a_bad_row_of_the_hub_is_named_with_split_and_number(hub: Path, tmp_path: Path) -> None:
    write_jsonl(hub / "en", "test", [row(8), row(10, answer=9)])
    describe(tmp_path, hub=str(hub), languages=NAMES, splits=SPLITS, config="exam-{language}")
    with pytest.raises(DataError, match=r"exam-en test row 2: answer must be exactly one of 1, 2"):
        items(opened(tmp_path), "eng_Latn", "test", None)


def test_the_example_in_the_docs_is_read_as_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    document = (ROOT / "docs/how-to/data.md").read_text(encoding="utf-8")
    [data_dir] = set(re.findall(r"-P data_dir=(examples/\S+)", document))
    task = open_task("files", data_dir)
    assert task.languages == ("arb_Arab", "eng_Latn", "fra_Latn")
    sizes = {"train": 6, "dev": 2, "test": 4, "all": 12}
    for split, size in sizes.items():
        found = parallel_items(task, task.languages, split, None)
        assert {len(part) for part in found.values()} == {size}
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)[0])
    described = (ROOT / data_dir / "task.yaml").read_text(encoding="utf-8")
    assert shown == yaml.safe_load(described)
    assert shown["name"] == task.name
    rows = re.findall(r"```csv\n(.*?)```", document, re.DOTALL)[0].splitlines()
    written = (ROOT / data_dir / "eng_Latn.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == written[0]
    assert rows[1] in written


def test_the_description_of_hub_data_in_the_docs_is_valid(tmp_path: Path) -> None:
    document = (ROOT / "docs/how-to/data.md").read_text(encoding="utf-8")
    path = tmp_path / "exams.yaml"
    path.write_text(re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)[1], encoding="utf-8")
    assert opened(path).languages == ("arb_Arab", "eng_Latn", "fra_Latn")


def test_every_error_is_one_line(tmp_path: Path) -> None:
    for bad, _ in BAD_ROWS:
        with pytest.raises(IsoglossError) as caught:
            read(tmp_path, [row(0), bad])
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)
