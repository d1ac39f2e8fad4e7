"""Splits by a number of test items, as the published study has them.

arXiv:2606.19346 tests on 100 of Belebele's 900 items per language, with the same ids in every
language, and trains on the others. By default the split is by passage, so that no passage is in
training and test. The published split was by question: several questions of a passage can be on
both sides, which tells the model about passages it is tested on.
"""

from dataclasses import replace

from isogloss.errors import DataError
from isogloss.tasks.items import Item, Task
from isogloss.tasks.splits import sort_key
from isogloss.types import LanguageCode, Split

PASSAGES_PER_DEV_PASSAGE = 10


def with_test_items(task: Task, test_items: int, *, share_passages: bool) -> Task:
    """The task with `test_items` items in `test`, the same in every language; all others train.

    Every tenth of the other passages is `dev`. Without `share_passages`, the items of whole
    passages are tested, and those of the last passage that are too many are in no split. With it,
    test items are drawn whatever their passage.
    """

    def read(language: LanguageCode, split: Split) -> list[Item]:
        items = task.read(language, Split.ALL)
        if split == Split.ALL:
            return items
        if len(items) <= test_items:
            raise DataError(
                f"test_items is {test_items}, but task {task.name!r} has {len(items)} items in "
                f"{language}; some must be left for training."
            )
        return _split(items, test_items, share_passages)[split]

    return replace(task, read=read)


def _split(items: list[Item], test_items: int, share_passages: bool) -> dict[Split, list[Item]]:
    if share_passages:
        test = sorted(items, key=lambda item: sort_key(item.item_id))[:test_items]
        held_out = {item.item_id for item in test}
        others = [item for item in items if item.item_id not in held_out]
    else:
        by_passage = sorted(items, key=lambda item: sort_key(item.passage_id))
        test = by_passage[:test_items]
        held_out = {item.passage_id for item in test}
        others = [item for item in items if item.passage_id not in held_out]
    passages = sorted({item.passage_id for item in others}, key=sort_key)
    dev = set(passages[::PASSAGES_PER_DEV_PASSAGE])
    return {
        Split.TEST: test,
        Split.DEV: [item for item in others if item.passage_id in dev],
        Split.TRAIN: [item for item in others if item.passage_id not in dev],
    }
