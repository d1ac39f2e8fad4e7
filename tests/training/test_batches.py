"""Which items each optimiser step takes."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import pytest
from conftest import probe
from tiny_training import CLOZE

from isogloss.models.language_model import Batching, LanguageModel
from isogloss.training.batches import plan_batches, split_by_tokens, training_rows
from isogloss.training.recipe import Recipe

RECIPE = Recipe(steps=9, batch_size=4)


class Row(NamedTuple):
    name: int
    items: int


ROWS = [Row(name, 2) for name in range(6)]


def test_every_epoch_takes_each_row_once_in_an_order_of_its_own() -> None:
    batches = list(plan_batches(ROWS, RECIPE))
    assert [sum(row.items for row in batch) for batch in batches] == [4] * 9
    names = [row.name for batch in batches for row in batch]
    epochs = [names[at : at + 6] for at in range(0, 18, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_depends_on_the_seed_and_a_longer_training_begins_alike() -> None:
    batches = list(plan_batches(ROWS, RECIPE))
    assert list(islice(plan_batches(ROWS, replace(RECIPE, steps=30)), 9)) == batches
    assert list(plan_batches(ROWS, replace(RECIPE, seed=1))) != batches


def test_a_passage_is_never_split_between_batches() -> None:
    rows = [Row(0, 3), Row(1, 3)]
    assert all(len(batch) == 2 for batch in plan_batches(rows, RECIPE))
    assert all(len(batch) == 1 for batch in plan_batches(rows, replace(RECIPE, batch_size=1)))


def test_rows_hold_the_items_of_one_passage_unless_the_model_cannot_share(
    tiny: LanguageModel,
) -> None:
    items = probe("arb_Arab", "train", 8)
    per_passage = Counter(item.passage_id for item in items)
    rows = training_rows(tiny, items, CLOZE)
    assert [row.items for row in rows] == list(per_passage.values())
    tiny.paths = replace(tiny.paths, batching=Batching.PADDED)
    separate = training_rows(tiny, items, CLOZE)
    assert [row.items for row in separate] == [1] * 8
    assert all(row.tree.is_chain for row in separate)
    answer_tokens = [sum(len(row.targets) for row in kind) for kind in (rows, separate)]
    assert answer_tokens[0] == answer_tokens[1]


@pytest.mark.parametrize("budget", [1, 120, 100_000])
def test_parts_keep_to_the_token_budget_and_lose_no_row(tiny: LanguageModel, budget: int) -> None:
    rows = training_rows(tiny, probe("arb_Arab", "train", 12), CLOZE)
    parts = list(split_by_tokens(rows, budget))
    assert sorted(id(row) for part in parts for row in part) == sorted(map(id, rows))
    for part in parts:
        assert len(part) == 1 or sum(len(row.tree) for row in part) <= budget
    assert len(parts) == {1: len(rows), 100_000: 1}.get(budget, len(parts))
