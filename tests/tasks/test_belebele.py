import json
import os
from pathlib import Path
from typing import Any

import pytest
from httpx2 import HTTPError
from huggingface_hub.errors import EntryNotFoundError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isogloss.errors import DataError
from isogloss.tasks import Item, items, languages_of, open_task, parallel_items
from isogloss.tasks.belebele import REVISION, load
from isogloss.tasks.splits import split_of

CODES = ("eng_Latn", "fra_Latn", "heb_Hebr")
REAL = Path(os.environ.get("ISOGLOSS_TEST_DATA", "absent"))


def row(link: str, number: int = 1, code: str = "eng_Latn", /, **changed: Any) -> dict[str, Any]:
    return {
        "link": link,
        "question_number": number,
        "flores_passage": f" Passage of {link} in {code}. ",
        "question": f"Question {number}? ",
        **{f"mc_answer{option}": f" option {option}" for option in range(1, 5)},
        "correct_answer_num": str(1 + number % 4),
        "dialect": code,
        "ds": "2023-05-03",
    } | changed


def write(folder: Path, code: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(values, ensure_ascii=False) + "\n" for values in rows]
    (folder / f"{code}.jsonl").write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize("layout", [".", "data"], ids=["plain", "as on the Hub"])
def test_items_are_read_to_the_character_from_either_layout(tmp_path: Path, layout: str) -> None:
    write(tmp_path / layout, "eng_Latn", [row("site/a", 2, correct_answer_num=4)])
    write(tmp_path / layout, "notes", [])
    task = open_task("belebele", str(tmp_path))
    assert (task.format, task.normalisation) == ("letter", "length")
    assert languages_of(task, None) == ("eng_Latn",)
    assert items(task, "eng_Latn", "all", None) == [
        Item(
            item_id="site/a#2",
            passage_id="site/a",
            language="eng_Latn",
            passage=" Passage of site/a in eng_Latn. ",
            question="Question 2? ",
            options=(" option 1", " option 2", " option 3", " option 4"),
            answer=3,
        )
    ]


def test_the_hub_s_files_are_read_from_its_cache_at_the_pinned_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "datasets--facebook--belebele" / "snapshots" / REVISION
    write(snapshot / "data", "heb_Hebr", [row("site/a", code="heb_Hebr")])
    write(snapshot / "unused", "eng_Latn", [row("site/a")])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    task = open_task("belebele", None)
    assert task.languages == ("heb_Hebr",)
    assert len(items(task, "heb_Hebr", "all", None)) == 1
    with pytest.raises(DataError, match=r"facebook/belebele data/eng_Latn\.jsonl cannot be downl"):
        load("eng_Latn", "all", None)


def test_the_hub_s_languages_are_those_listed_at_the_pinned_revision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def listed(api: Any, repository: str, *, repo_type: str, revision: str) -> list[str]:
        assert (repository, repo_type, revision) == ("facebook/belebele", "dataset", REVISION)
        return ["README.md", "data/fra_Latn.jsonl", "data/eng_Latn.jsonl", "data/xxx_Xxxx.jsonl"]

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", listed)
    assert open_task("belebele", None).languages == ("eng_Latn", "fra_Latn")


def test_without_network_or_cache_the_hub_raises_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="facebook/belebele cannot be downloaded from the Hub"):
        open_task("belebele", None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            EntryNotFoundError("404"),
            r"facebook/belebele has no file data/eng_Latn\.jsonl on the Hub",
        ),
        (
            HTTPError("reset"),
            r"eng_Latn\.jsonl cannot be downloaded from the Hub \(reset\); data_dir",
        ),
    ],
)
def test_a_file_that_cannot_be_downloaded_is_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def download(*args: Any, **options: Any) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(DataError, match=message):
        load("eng_Latn", "test", None)


def test_missing_data_raise_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data_dir 'nowhere' is not a folder"):
        open_task("belebele", "nowhere")
    with pytest.raises(DataError, match="belebele finds no language in"):
        open_task("belebele", str(tmp_path))
    with pytest.raises(DataError, match=r"belebele has no file .*heb_Hebr\.jsonl"):
        load("heb_Hebr", "test", str(tmp_path))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row("b", link=" "), "link must be text but is ' '"),
        (row("b", flores_passage=""), "flores_passage must be text but is ''"),
        (row("b", question="\n"), "question must be text"),
        (row("b", mc_answer3="  "), "mc_answer3 must be text but is '  '"),
        (row("b", mc_answer3=None), "mc_answer3 must be text but is None"),
        (row("b", mc_answer3=3), "mc_answer3 must be text but is 3"),
        (row("b", correct_answer_num="0"), "correct_answer_num must be 1 to 4 but is '0'"),
        (row("b", correct_answer_num=5), "correct_answer_num must be 1 to 4 but is 5"),
        (row("b", correct_answer_num="A"), "correct_answer_num must be 1 to 4 but is 'A'"),
        (row("b", question_number="x"), "question_number must be a number but is 'x'"),
        (row("a"), r"duplicate item 'a#1'; the first is at .*eng_Latn\.jsonl:1"),
        (
            row("a", 2, flores_passage="Other."),
            r"text of passage 'a' differs from that at .*Latn\.jsonl:1",
        ),
        *(
            ({name: value for name, value in row("b").items() if name != missing}, missing)
            for missing in row("b")
            if missing not in ("dialect", "ds")
        ),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(
    tmp_path: Path, bad: dict[str, Any], message: str
) -> None:
    write(tmp_path, "eng_Latn", [row("a"), bad])
    with pytest.raises(DataError, match=rf"eng_Latn\.jsonl:2: .*{message}"):
        load("eng_Latn", "test", str(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"link": ', r":2: the line is not JSON"),
        (b'["link"]', r":2: the line must be an object"),
        (b'{"link": "\xff"}', r" is not UTF-8 text"),
    ],
)
def test_a_line_that_is_not_a_json_object_is_rejected(
    tmp_path: Path, line: bytes, message: str
) -> None:
    first = json.dumps(row("a")).encode()
    (tmp_path / "eng_Latn.jsonl").write_bytes(first + b"\n" + line + b"\n")
    with pytest.raises(DataError, match=r"eng_Latn\.jsonl" + message):
        load("eng_Latn", "test", str(tmp_path))


def test_identical_options_are_allowed(tmp_path: Path) -> None:
    write(tmp_path, "eng_Latn", [row("a", mc_answer2=" option 1")])
    assert len(load("eng_Latn", "all", str(tmp_path))) == 1


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_passage_of_train_is_in_dev_or_test_in_any_language(
    tmp_path: Path, data: st.DataObject
) -> None:
    links = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
    questions = data.draw(
        st.lists(st.tuples(links, st.integers(1, 2)), min_size=1, max_size=20, unique=True)
    )
    for code in CODES:
        rows = [row(link, number, code) for link, number in data.draw(st.permutations(questions))]
        write(tmp_path, code, rows)
    parts = [
        {code: load(code, split, str(tmp_path)) for code in CODES}
        for split in ("train", "dev", "test")
    ]
    held = [{it.passage_id for found in part.values() for it in found} for part in parts]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    for part in parts:
        ids = [[it.item_id for it in found] for found in part.values()]
        assert ids[0] == ids[1] == ids[2]
    assert sum(len(part["eng_Latn"]) for part in parts) == len(questions)


def test_questions_of_a_passage_stay_together_and_in_order(tmp_path: Path) -> None:
    questions = [(f"site/{link}", number) for link in range(50) for number in (2, 1)]
    write(tmp_path, "eng_Latn", [row(link, number) for link, number in questions])
    found = load("eng_Latn", "all", str(tmp_path))
    for one, two in zip(found[::2], found[1::2], strict=True):
        assert (one.passage_id, one.question) == (two.passage_id, "Question 1? ")
    assert [it.passage_id for it in found[::2]] != sorted(it.passage_id for it in found[::2])


@pytest.mark.skipif(
    not (REAL / "belebele").is_dir(), reason="set ISOGLOSS_TEST_DATA to a folder with belebele/"
)
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("belebele", {"train": 347, "dev": 120, "test": 433, "all": 900}),
        ("belebele_english_questions", {"train": 220, "dev": 70, "test": 252, "all": 542}),
    ],
)
def test_the_real_data_are_parallel_and_split_by_passage(name: str, sizes: dict[str, int]) -> None:
    task = open_task("belebele", str(REAL / name))
    passages: dict[str, set[str]] = {}
    for split, size in sizes.items():
        found = parallel_items(task, task.languages, split, None)
        assert {len(part) for part in found.values()} == {size}
        passages[split] = {it.passage_id for part in found.values() for it in part}
    assert not passages["train"] & (passages["dev"] | passages["test"])
    assert not passages["dev"] & passages["test"]
    for split in ("train", "dev", "test"):
        assert {split_of(passage) for passage in passages[split]} == {split}
