"""Properties of every task: opening, choosing languages, parallel items, splits by passage."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import ConfigError, DataError
from isogloss.tasks import Item, Task, items, languages_of, open_task, parallel_items
from isogloss.tasks.splits import sort_key, split_of

SRC = Path(__file__).parents[2] / "src"
PASSAGE_IDS = st.lists(st.text(min_size=1).filter(str.strip), min_size=1, unique=True)


def item(number: int, language: str = "eng_Latn") -> Item:
    return Item(str(number), f"p{number}", language, "Text.", "Question?", ("a", "b"), 0)


def task_of(**by_language: list[Item]) -> Task:
    return Task("made", tuple(by_language), lambda code, _: by_language[code], "letter", "length")


def test_every_split_of_the_probe_is_parallel_and_all_is_their_union() -> None:
    task = open_task("probe", None)
    assert (task.format, task.normalisation, task.parallel) == ("cloze", "length", True)
    parts = [
        parallel_items(task, task.languages[:3], split, None) for split in ("train", "dev", "test")
    ]
    whole = parallel_items(task, task.languages[:3], "all", None)
    for code in task.languages[:3]:
        assert whole[code] == [item for part in parts for item in part[code]]
    assert items(task, "eng_Latn", "test", 3) == items(task, "eng_Latn", "test", None)[:3]


def test_an_unknown_task_and_a_data_dir_for_the_probe_are_rejected() -> None:
    with pytest.raises(ConfigError, match="task 'squad' is not one of probe, sib200, belebele"):
        open_task("squad", None)
    with pytest.raises(ConfigError, match="takes no data_dir but got 'here'"):
        open_task("probe", "here")


def test_languages_are_the_chosen_ones_or_all_and_unknown_ones_are_rejected() -> None:
    task = task_of(eng_Latn=[item(1)], fra_Latn=[item(1)])
    assert languages_of(task, None) == ("eng_Latn", "fra_Latn")
    assert languages_of(task, ("fra_Latn",)) == ("fra_Latn",)
    with pytest.raises(ConfigError, match="'made' has no language 'heb_Hebr'; it has eng_Latn"):
        languages_of(task, ("heb_Hebr",))
    with pytest.raises(ConfigError, match="unknown language 'french'"):
        languages_of(task, ("french",))


def test_an_empty_split_is_rejected() -> None:
    task = task_of(eng_Latn=[])
    for read in (
        lambda: items(task, "eng_Latn", "dev", None),
        lambda: parallel_items(task, ("eng_Latn",), "dev", None),
    ):
        with pytest.raises(DataError, match="'made' has no items of split 'dev' in eng_Latn"):
            read()


FIVE = [item(number) for number in range(1, 6)]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            FIVE[:1],
            r"fra_Latn lacks 4 items that eng_Latn has: 2, 3, 4, \.\.\. \(eng_Latn has 5 items, "
            r"fra_Latn 1\)",
        ),
        ([*FIVE, item(6)], r"eng_Latn lacks 1 items that fra_Latn has: 6 \("),
        (FIVE[::-1], r"their 5 items in different orders; item 1 is 1 in eng_Latn and 5 in fra"),
        (
            [*FIVE[:4], replace(FIVE[4], passage_id="p4")],
            r"differ in the passage_id of 1 of 5 items: 5 \(p5 and p4\)",
        ),
        ([*FIVE[:4], replace(FIVE[4], answer=1)], r"differ in the answer of 1 .* 5 \(1 and 2\)"),
        (
            [*FIVE[:4], replace(FIVE[4], options=("a", "b", "c"))],
            r"differ in the number of options of 1 .* 5 \(2 and 3\)",
        ),
    ],
    ids=["lacking", "more", "order", "passage", "answer", "options"],
)
def test_languages_with_different_items_are_rejected_with_the_first_differences(
    other: list[Item], message: str
) -> None:
    task = task_of(eng_Latn=FIVE, fra_Latn=other)
    with pytest.raises(DataError, match=message):
        parallel_items(task, task.languages, "test", 1)
    apart = replace(task, parallel=False)
    assert parallel_items(apart, task.languages, "test", 1)["fra_Latn"] == other[:1]


@given(PASSAGE_IDS)
def test_a_passage_is_in_one_split_by_its_id_alone(passage_ids: list[str]) -> None:
    one_by_one = [split_of(passage_id) for passage_id in passage_ids]
    assert set(one_by_one) <= {"train", "dev", "test"}
    assert [split_of(passage_id) for passage_id in passage_ids[::-1]] == one_by_one[::-1]


def test_splits_have_the_stated_shares_in_any_prefix() -> None:
    passages = sorted((f"https://example.org/{number}" for number in range(4000)), key=sort_key)
    for first in (passages, passages[:1000]):
        for split, share in (("train", 0.4), ("dev", 0.1), ("test", 0.5)):
            found = sum(split_of(passage) == split for passage in first) / len(first)
            assert found == pytest.approx(share, abs=0.04)


def test_the_split_of_a_passage_never_changes_between_versions() -> None:
    ids = ("https://en.wikibooks.org/wiki/Accordion/Right_hand", "market", "3")
    assert [split_of(passage_id) for passage_id in ids] == ["dev", "test", "train"]


def test_tasks_are_opened_without_importing_torch_mlflow_or_datasets() -> None:
    code = (
        "import sys; from isogloss.tasks import items, open_task;"
        "items(open_task('probe', None), 'eng_Latn', 'test', None);"
        "print(sorted({'torch', 'mlflow', 'datasets', 'transformers', 'pandas'} & {*sys.modules}))"
    )
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert run.stdout.strip() == "[]"
