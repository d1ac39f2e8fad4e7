from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow.parquet import write_table

from isogloss.errors import DataError
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.tasks import Item, items, languages_of, open_task, parallel_items
from isogloss.tasks.global_mmlu import REVISION, load
from isogloss.types import Format, Split

SUBJECTS = ("anatomy", "virology", "high_school_physics")


def row(sample_id: str, name: str = "en", /, **changed: Any) -> dict[str, Any]:
    """A row with the columns of the Hub's files."""
    subject = sample_id.split("/")[0]
    return {
        "sample_id": sample_id,
        "subject": subject,
        "subject_category": "STEM",
        "question": f"Question {sample_id} in {name}? ",
        **{f"option_{letter}": f" {letter} in {name}" for letter in "abcd"},
        "answer": "ABCD"[len(sample_id) % 4],
        "required_knowledge": "[]",
        "time_sensitive": "[]",
        "reference": "[]",
        "culture": "[]",
        "region": "[]",
        "country": "[]",
        "cultural_sensitivity_label": "-",
        "is_annotated": False,
    } | changed


def write(root: Path, name: str, split: str, rows: list[dict[str, Any]]) -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(rows)
    write_table(table, root / name / f"{split}-00000-of-00001.parquet")


def write_language(root: Path, name: str) -> None:
    for split, count in (("dev", 20), ("test", 4)):
        ids = [f"{subject}/{split}/{number}" for subject in SUBJECTS for number in range(count)]
        write(root, name, split, [row(sample_id, name) for sample_id in ids])


def test_items_are_read_to_the_character(tmp_path: Path) -> None:
    write(tmp_path, "zh", "test", [row("anatomy/test/7", "zh", answer="C")])
    task = open_task("global_mmlu", str(tmp_path))
    assert (task.format, task.normalisation, task.parallel) == ("letter", "length", True)
    assert languages_of(task, None) == ("zho_Hans",)
    assert items(task, "zho_Hans", Split.TEST, None) == [
        Item(
            item_id="anatomy/test/7",
            passage_id="anatomy/test/7",
            language="zho_Hans",
            passage="",
            question="Question anatomy/test/7 in zh? ",
            options=(" a in zh", " b in zh", " c in zh", " d in zh"),
            answer=2,
        )
    ]


def test_the_prompt_is_lm_evaluation_harness_s_in_the_frame_of_this_project(tmp_path: Path) -> None:
    write(tmp_path, "en", "test", [row("anatomy/test/7")])
    [item] = load("eng_Latn", Split.TEST, str(tmp_path))
    asked = prompt(item, Protocol(Format.LETTER))
    assert asked.context == (
        "Q: Question anatomy/test/7 in en?\nA:  a in en\nB:  b in en\nC:  c in en\nD:  d in en\n"
        "Answer:"
    )
    assert asked.continuations == (" A", " B", " C", " D")


def test_adapters_train_on_dev_which_is_disjoint_from_test_in_every_language(
    tmp_path: Path,
) -> None:
    codes = ("eng_Latn", "swh_Latn", "tgl_Latn", "plt_Latn")
    for name in ("en", "sw", "fil", "mg"):
        write_language(tmp_path, name)
    task = open_task("global_mmlu", str(tmp_path))
    assert set(task.languages) == set(codes)
    ids = {
        split: {
            code: [item.item_id for item in found]
            for code, found in parallel_items(task, codes, split, None).items()
        }
        for split in Split
    }
    train, dev, test = (set(ids[split]["eng_Latn"]) for split in (Split.TRAIN, Split.DEV, "test"))
    assert train | dev == {f"{subject}/dev/{n}" for subject in SUBJECTS for n in range(20)}
    assert test == {f"{subject}/test/{n}" for subject in SUBJECTS for n in range(4)}
    assert not train & dev
    assert 6 <= len(dev) <= 20  # a fifth of sixty, by hash
    assert set(ids[Split.ALL]["eng_Latn"]) == train | dev | test
    assert len({tuple(by_language[code]) for by_language in [ids["test"]] for code in codes}) == 1


def test_a_language_that_lacks_a_question_is_named(tmp_path: Path) -> None:
    write(tmp_path, "en", "test", [row("anatomy/test/1"), row("anatomy/test/2")])
    write(tmp_path, "am", "test", [row("anatomy/test/1", "am")])
    task = open_task("global_mmlu", str(tmp_path))
    with pytest.raises(DataError, match=r"amh_Ethi lacks 1 items .* anatomy/test/2"):
        parallel_items(task, ("eng_Latn", "amh_Ethi"), Split.TEST, None)


def test_the_lite_set_is_read_from_a_folder_with_its_further_languages(tmp_path: Path) -> None:
    for name in ("en", "my", "cy"):
        write(tmp_path, name, "test", [row("anatomy/test/1", name)])
    task = open_task("global_mmlu", str(tmp_path))
    assert task.languages == ("cym_Latn", "eng_Latn", "mya_Mymr")


def test_the_hub_s_files_are_read_from_its_cache_at_the_pinned_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "datasets--CohereLabs--Global-MMLU" / "snapshots" / REVISION
    write_language(snapshot, "he")
    write_language(snapshot, "xx")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    task = open_task("global_mmlu", None)
    assert task.languages == ("heb_Hebr",)
    assert len(items(task, "heb_Hebr", Split.ALL, None)) == 72
    with pytest.raises(DataError, match=r"Global-MMLU fr/test-00000-of-00001\.parquet cannot be d"):
        load("fra_Latn", Split.TEST, None)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row("b", question=" "), "question must be text but is ' '"),
        (row("b", question=None), "question must be text but is None"),
        (row("b", option_c=""), "option_c must be text but is ''"),
        (row("b", option_d=None), "option_d must be text but is None"),
        (row("b", answer="E"), "answer must be A, B, C or D but is 'E'"),
        (row("b", answer="AB"), "answer must be A, B, C or D but is 'AB'"),
        (row("b", answer=None), "answer must be A, B, C or D but is None"),
        (row("b", sample_id=""), "sample_id must be text but is ''"),
        (row("a"), "duplicate item 'a'; the first is at .* row 1"),
    ],
)
def test_a_bad_row_is_named_with_file_and_row(
    tmp_path: Path, bad: dict[str, Any], message: str
) -> None:
    write(tmp_path, "en", "test", [row("a"), bad])
    with pytest.raises(DataError, match=rf"test-00000-of-00001\.parquet row 2: {message}"):
        load("eng_Latn", Split.TEST, str(tmp_path))


@pytest.mark.parametrize("missing", ["sample_id", "question", "option_b", "answer"])
def test_a_missing_column_is_named(tmp_path: Path, missing: str) -> None:
    rows = [{name: value for name, value in row("a").items() if name != missing}]
    write(tmp_path, "en", "test", rows)
    with pytest.raises(DataError, match=f"row 1: there is no {missing}"):
        load("eng_Latn", Split.TEST, str(tmp_path))


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "test-00000-of-00001.parquet").write_text("sample_id,question\n")
    with pytest.raises(DataError, match=r"test-00000-of-00001\.parquet is not a Parquet table"):
        load("eng_Latn", Split.TEST, str(tmp_path))


def test_missing_data_raise_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data_dir 'nowhere' is not a folder"):
        open_task("global_mmlu", "nowhere")
    with pytest.raises(DataError, match=r"global_mmlu finds no language .* am/test-00000-of-00001"):
        open_task("global_mmlu", str(tmp_path))
    write(tmp_path, "en", "test", [row("a")])
    with pytest.raises(DataError, match=r"global_mmlu has no file .*en/dev-00000-of-00001.parquet"):
        load("eng_Latn", Split.TRAIN, str(tmp_path))
