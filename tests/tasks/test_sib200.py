import os
import shutil
from pathlib import Path

import pytest

from isogloss.errors import ConfigError, DataError
from isogloss.tasks import items, languages_of, open_task, parallel_items, sib200

ROWS = [
    ("431", "geography", 'The "Black Sea" lies to the north.'),
    ("403", "science/technology", '"Radar was new, and accurate.'),
    ("7", "travel", "Take the ferry."),
]
REAL = Path(os.environ.get("ISOGLOSS_TEST_DATA", "absent")) / "sib200"


def write(root: Path, code: str, rows: list[tuple[str, str, str]] = ROWS) -> None:
    (root / code).mkdir(parents=True)
    lines = ["index_id\tcategory\ttext", *("\t".join(row) for row in rows)]
    for split in ("train", "dev", "test"):
        (root / code / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("layout", [".", "data"], ids=["plain", "as on the Hub"])
def test_items_are_read_with_their_quotes_from_either_layout(tmp_path: Path, layout: str) -> None:
    write(tmp_path / layout, "eng_Latn")
    task = open_task("sib200", str(tmp_path))
    found = items(task, "eng_Latn", "dev", None)
    assert [item.passage for item in found] == [text for _, _, text in ROWS]
    assert [item.options[item.answer] for item in found] == [topic for _, topic, _ in ROWS]
    assert [item.passage_id for item in found] == ["431", "403", "7"]
    assert languages_of(task, None) == ("eng_Latn",)


def test_the_hub_s_files_are_read_from_its_cache_at_the_pinned_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "datasets--Davlan--sib200" / "snapshots" / sib200.REVISION
    write(snapshot / "data", "eng_Latn")
    (snapshot / "data" / "nqo_Nkoo.alt").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    task = open_task("sib200", None)
    assert task.languages == ("eng_Latn",)
    assert len(items(task, "eng_Latn", "test", None)) == len(ROWS)
    shutil.rmtree(snapshot)
    with pytest.raises(DataError, match=r"Davlan/sib200 cannot be downloaded .* data_dir takes"):
        open_task("sib200", None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("9", "weather", "Rain."), r"test\.tsv:5: category 'weather'"),
        (("9", "travel", " "), r"test\.tsv:5: the text is empty"),
        (("7", "travel", "Again."), r"test\.tsv:5: duplicate index_id 7"),
        (("9", "travel", "A tab\tin it."), r"test\.tsv:5: 4 values but 3 columns"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(
    tmp_path: Path, row: tuple[str, str, str], message: str
) -> None:
    write(tmp_path, "eng_Latn", [*ROWS, row])
    with pytest.raises(DataError, match=message):
        items(open_task("sib200", str(tmp_path)), "eng_Latn", "test", None)


def test_missing_data_raise_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data_dir 'nowhere' is not a folder"):
        open_task("sib200", "nowhere")
    with pytest.raises(DataError, match="finds no language"):
        open_task("sib200", str(tmp_path))
    write(tmp_path, "eng_Latn")
    with pytest.raises(ConfigError, match="has no language 'heb_Hebr'"):
        languages_of(open_task("sib200", str(tmp_path)), ("heb_Hebr",))
    with pytest.raises(DataError, match=r"no file .*heb_Hebr"):
        sib200.load("heb_Hebr", "test", str(tmp_path))
    (tmp_path / "eng_Latn" / "test.tsv").write_text("id\ttext\n1\tx\n")
    with pytest.raises(DataError, match="no column category, index_id"):
        sib200.load("eng_Latn", "test", str(tmp_path))
    (tmp_path / "eng_Latn" / "test.tsv").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"test\.tsv is not UTF-8 text"):
        sib200.load("eng_Latn", "test", str(tmp_path))


def test_the_first_test_items_are_of_several_topics_though_the_file_is_sorted(
    tmp_path: Path,
) -> None:
    topics = [topic for topic in sib200.TOPICS for _ in range(20)]
    rows = [(str(1000 + index), topic, "Text.") for index, topic in enumerate(topics)]
    for code in ("eng_Latn", "heb_Hebr"):
        write(tmp_path, code, rows)
    first, other = parallel_items(
        open_task("sib200", str(tmp_path)), ("eng_Latn", "heb_Hebr"), "test", 20
    ).values()
    assert len({item.answer for item in first}) >= 5
    assert [item.item_id for item in other] == [item.item_id for item in first]


def test_labels_are_scored_without_length_normalisation(tmp_path: Path) -> None:
    write(tmp_path, "eng_Latn")
    task = open_task("sib200", str(tmp_path))
    assert (task.format, task.normalisation) == ("cloze", "none")


@pytest.mark.skipif(not REAL.is_dir(), reason="set ISOGLOSS_TEST_DATA to a folder with sib200/")
def test_the_real_data_are_parallel_by_sentence_and_topic() -> None:
    task = open_task("sib200", str(REAL))
    assert len(task.languages) == len(list(REAL.iterdir()))
    for split, size in (("train", 701), ("dev", 99), ("test", 204), ("all", 1004)):
        found = parallel_items(task, task.languages, split, None)
        assert {len(items) for items in found.values()} == {size}
