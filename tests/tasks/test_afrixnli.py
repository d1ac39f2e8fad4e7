import csv
from pathlib import Path

import pytest

from isogloss.errors import DataError
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.tasks import Item, items, languages_of, open_task, parallel_items
from isogloss.tasks.afrixnli import REVISION, load
from isogloss.types import Format, Normalisation, Split

HEADER = ("premise", "hypothesis", "label")
Row = tuple[str, str, str]


def rows_of(name: str, premises: int = 20) -> list[Row]:
    """Three hypotheses for each premise, as in XNLI."""
    return [
        (f"Premise {number} in {name}.", f"Hypothesis {number}.{label} in {name}.", str(label))
        for number in range(premises)
        for label in range(3)
    ]


def write(root: Path, name: str, split: str, rows: list[Row]) -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    with (root / name / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows([HEADER, *rows])


@pytest.mark.parametrize("layout", [".", "data"], ids=["plain", "as on the Hub"])
def test_items_are_read_from_either_layout(tmp_path: Path, layout: str) -> None:
    write(tmp_path / layout, "orm", "test", [('He said "no".', " They left. ", "2")])
    task = open_task("afrixnli", str(tmp_path))
    assert (task.format, task.normalisation, task.parallel) == ("cloze", "none", True)
    assert languages_of(task, None) == ("gaz_Latn",)
    assert items(task, "gaz_Latn", Split.TEST, None) == [
        Item(
            item_id="test/1",
            passage_id="test/premise 1",
            language="gaz_Latn",
            passage='He said "no".',
            question="They left. True, False, or Neither?",
            options=("True", "Neither", "False"),
            answer=2,
        )
    ]


def test_the_prompt_asks_as_lm_evaluation_harness_does(tmp_path: Path) -> None:
    write(tmp_path, "eng", "test", [("He slept.", "He was awake.", "2")])
    [item] = load("eng_Latn", Split.TEST, str(tmp_path))
    asked = prompt(item, Protocol(Format.CLOZE, Normalisation.NONE))
    assert asked.context == "P: He slept.\nQ: He was awake. True, False, or Neither?\nAnswer:"
    assert asked.continuations == (" True", " Neither", " False")


def test_hypotheses_of_a_premise_are_one_cluster_and_in_one_split(tmp_path: Path) -> None:
    codes = ("eng_Latn", "swh_Latn", "twi_Latn")
    for name in ("eng", "swa", "twi"):
        write(tmp_path, name, "dev", rows_of(name))
        write(tmp_path, name, "test", rows_of(name, 10))
    # A translator may word one premise in two ways: the cluster is the same nevertheless.
    other = rows_of("swa", 10)
    other[1] = ("Another wording.", *other[1][1:])
    write(tmp_path, "swa", "test", other)
    task = open_task("afrixnli", str(tmp_path))
    found = {split: parallel_items(task, codes, split, None) for split in Split}
    passages = {
        split: [item.passage_id for item in by_language["swh_Latn"]]
        for split, by_language in found.items()
    }
    assert sorted(set(passages[Split.TEST])) == sorted(f"test/premise {n}" for n in range(1, 11))
    assert all(passages[split].count(name) == 3 for split in Split for name in passages[split])
    assert not set(passages[Split.TRAIN]) & set(passages[Split.DEV])
    assert set(passages[Split.TRAIN]) | set(passages[Split.DEV]) == {
        f"dev/premise {n}" for n in range(1, 21)
    }
    for passage in set(passages[Split.TRAIN]):
        members = [it for it in found[Split.TRAIN]["eng_Latn"] if it.passage_id == passage]
        assert len({it.passage for it in members}) == 1
        assert [it.answer for it in members] == [0, 1, 2]
    assert len(passages[Split.ALL]) == 90


def test_labels_that_differ_between_languages_are_named(tmp_path: Path) -> None:
    write(tmp_path, "eng", "test", [("A.", "B.", "0")])
    write(tmp_path, "yor", "test", [("A.", "B.", "1")])
    task = open_task("afrixnli", str(tmp_path))
    with pytest.raises(DataError, match=r"differ in the answer of 1 of 1 items: test/1 \(1 and 2"):
        parallel_items(task, ("eng_Latn", "yor_Latn"), Split.TEST, None)


def test_quotes_are_read_as_datasets_reads_them(tmp_path: Path) -> None:
    (tmp_path / "eng").mkdir()
    (tmp_path / "eng" / "test.tsv").write_text(
        'premise\thypothesis\tlabel\n"He said ""no""."\tIt "was".\t0\n"Yes" he said.\tNo.\t1\n'
    )
    found = sorted(load("eng_Latn", Split.TEST, str(tmp_path)), key=lambda item: item.item_id)
    assert [item.passage for item in found] == ['He said "no".', "Yes he said."]
    assert found[0].question == 'It "was". True, False, or Neither?'


def test_the_hub_s_files_are_read_from_its_cache_at_the_pinned_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "datasets--masakhane--afrixnli" / "snapshots" / REVISION
    write(snapshot / "data", "zul", "test", rows_of("zul"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    task = open_task("afrixnli", None)
    assert task.languages == ("zul_Latn",)
    assert len(items(task, "zul_Latn", Split.TEST, None)) == 60
    with pytest.raises(DataError, match=r"afrixnli data/zul/dev\.tsv cannot be downloaded"):
        load("zul_Latn", Split.DEV, None)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((" ", "B.", "0"), ":3: premise must be text but is ' '"),
        (("A.", "", "0"), ":3: hypothesis must be text but is ''"),
        (("A.", "B.", "3"), ":3: label must be 0, 1 or 2 but is '3'"),
        (("A.", "B.", "neutral"), ":3: label must be 0, 1 or 2 but is 'neutral'"),
        (("A.", "B.", ""), ":3: label must be 0, 1 or 2 but is ''"),
        (("A.", "B."), ":3: 2 values but 3 columns"),
        (('"A.', "B.", "1", "0"), ":3: 4 values but 3 columns"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(tmp_path: Path, bad: Row, message: str) -> None:
    write(tmp_path, "eng", "test", [("A.", "B.", "0"), bad])
    with pytest.raises(DataError, match=rf"test\.tsv{message}"):
        load("eng_Latn", Split.TEST, str(tmp_path))


def test_a_quote_that_is_never_closed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "eng").mkdir()
    (tmp_path / "eng" / "test.tsv").write_text(
        'premise\thypothesis\tlabel\n"Open.\tB.\t0\nC.\tD.\t1\n'
    )
    with pytest.raises(DataError, match=r"test\.tsv:2: 1 values but 3 columns"):
        load("eng_Latn", Split.TEST, str(tmp_path))


@pytest.mark.parametrize("missing", HEADER)
def test_a_missing_column_is_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path, "eng", "test", [("A.", "B.", "0")])
    path = tmp_path / "eng" / "test.tsv"
    path.write_text(path.read_text().replace(missing, "other"))
    with pytest.raises(DataError, match=rf"test\.tsv:2: there is no {missing}"):
        load("eng_Latn", Split.TEST, str(tmp_path))


def test_missing_data_raise_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data_dir 'nowhere' is not a folder"):
        open_task("afrixnli", "nowhere")
    with pytest.raises(DataError, match=r"afrixnli finds no language .* amh/test\.tsv"):
        open_task("afrixnli", str(tmp_path))
    write(tmp_path, "eng", "test", [("A.", "B.", "0")])
    with pytest.raises(DataError, match=r"afrixnli has no file .*eng/dev\.tsv"):
        load("eng_Latn", Split.TRAIN, str(tmp_path))
