"""Splits by a number of test items, by passage and by question."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.config import FinetuneConfig
from isogloss.errors import ConfigError, DataError
from isogloss.stages.task_data import configured_task
from isogloss.tasks import Item, Task, items
from isogloss.tasks.published_split import with_test_items
from isogloss.training.contamination import refuse_contamination, training_record
from isogloss.types import Format, Normalisation, Split


def task(questions: int = 3, passages: int = 40) -> Task:
    def read(language: str, split: Split) -> list[Item]:
        assert split == Split.ALL
        return [
            Item(
                f"{passage}#{number}", str(passage), language, f"text {passage}", "?", ("a", "b"), 0
            )
            for passage in range(passages)
            for number in range(questions)
        ]

    return Task("t", ("arb_Arab", "heb_Hebr"), read, Format.LETTER, Normalisation.NONE)


def ids(split_task: Task, split: Split, language: str = "arb_Arab") -> list[str]:
    return [item.item_id for item in items(split_task, language, split, None)]


@given(st.integers(1, 100), st.booleans())
def test_splits_are_disjoint_and_the_same_in_every_language(n: int, shared: bool) -> None:
    split_task = with_test_items(task(), n, share_passages=shared)
    parts = {part: ids(split_task, part) for part in (Split.TEST, Split.DEV, Split.TRAIN)}
    assert len(parts[Split.TEST]) == n
    together = [item for part in parts.values() for item in part]
    assert len(set(together)) == len(together)
    for part, members in parts.items():
        assert ids(split_task, part, "heb_Hebr") == members
    if shared:
        assert len(together) == 120  # every item is in a split
    passages = {part: {item.split("#")[0] for item in members} for part, members in parts.items()}
    assert not passages[Split.DEV] & passages[Split.TRAIN]
    if not shared:
        assert not passages[Split.TEST] & (passages[Split.TRAIN] | passages[Split.DEV])
        assert len(together) > 120 - 3


def test_a_split_by_question_shares_passages_and_must_be_allowed() -> None:
    split_task = with_test_items(task(), 30, share_passages=True)
    train, test = (items(split_task, "arb_Arab", part, None) for part in (Split.TRAIN, Split.TEST))
    record = training_record("t", train)
    with pytest.raises(DataError, match="were in its training data"):
        refuse_contamination(record, "t", test, [])
    refuse_contamination(record, "t", test, [], share_passages=True)
    with pytest.raises(DataError, match="trained on 1 of the items of t to be evaluated"):
        refuse_contamination(record, "t", [*test, train[0]], [], share_passages=True)
    with pytest.raises(DataError, match="were in its training data"):  # items are not known
        refuse_contamination(replace(record, items=None), "t", test, [], share_passages=True)


def test_unusable_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="test_items is 120, but task 't' has 120 items"):
        ids(with_test_items(task(), 120, share_passages=False), Split.TEST)
    with pytest.raises(ConfigError, match="share_passages needs test_items"):
        configured_task(FinetuneConfig.model_validate({"share_passages": "true"}))


REAL = Path(os.environ.get("ISOGLOSS_TEST_DATA", "absent")) / "belebele"


@pytest.mark.skipif(not REAL.is_dir(), reason="set ISOGLOSS_TEST_DATA to a folder with belebele/")
def test_the_published_numbers_on_belebele() -> None:
    config = FinetuneConfig.model_validate(
        {"task": "belebele", "data_dir": str(REAL), "test_items": 100,
         "share_passages": True}
    )  # fmt: skip
    split_task = configured_task(config)
    counts = {part: len(ids(split_task, part, "eng_Latn")) for part in Split if part != Split.ALL}
    assert counts[Split.TEST] == 100
    assert sum(counts.values()) == 900
