"""Batches: training items as token trees, and which of them each optimiser step takes."""

import random
import typing
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from isogloss.compat import public_only
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import encode
from isogloss.tasks import Item
from isogloss.training.recipe import Recipe

if TYPE_CHECKING:  # imports torch
    from isogloss.models.language_model import LanguageModel


class HasItems(typing.Protocol):
    """Anything that stands for a number of items."""

    @property
    def items(self) -> int:
        """The number of items."""
        ...


R = TypeVar("R", bound=HasItems)


class TrainingRow(NamedTuple):
    """The items of one passage as a token tree, and the answer tokens that carry the loss.

    A target is a pair (node, token): the model predicts `token` at tree node `node`.
    """

    tree: TokenTree
    targets: list[tuple[int, int]]
    items: int


def training_rows(
    model: "LanguageModel", items: Sequence[Item], protocol: Protocol
) -> list[TrainingRow]:
    """One row per passage, or per item if the model cannot share prefixes; in item order."""
    from isogloss.models.paths import can_share  # torch, which a plan does not need

    prompts = [prompt(item, protocol, model.tokenizer) for item in items]
    encoded = encode(model.tokenizer, prompts, chat=protocol.chat)
    share = can_share(model) or public_only()  # batches are the same with public interfaces
    rows = []
    for _, members in groupby(
        range(len(items)),
        lambda index: (items[index].language, items[index].passage_id) if share else index,
    ):
        row = TrainingRow(TokenTree(), [], len(indices := list(members)))
        for index in indices:
            answer = items[index].answer
            sequence, start = encoded[index].sequences[answer], encoded[index].starts[answer]
            path = row.tree.insert(sequence[:-1])
            row.targets.extend(zip(path[start - 1 :], sequence[start:], strict=True))
        rows.append(row)
    return rows


def plan_batches(rows: Sequence[R], recipe: Recipe) -> Iterator[list[R]]:
    """One batch per step: whole rows with at least `batch_size` items in all.

    Rows are reshuffled every epoch; the order depends on the seed alone, so a resumed training
    skips the batches it has done.
    """
    order = random.Random(f"order-{recipe.seed}")
    queue: list[R] = []
    for _ in range(recipe.steps):
        batch: list[R] = []
        while not batch or sum(row.items for row in batch) < recipe.batch_size:
            if not queue:
                queue = list(rows)
                order.shuffle(queue)
            batch.append(queue.pop())
        yield batch


def split_by_tokens(rows: Sequence[TrainingRow], budget: int) -> Iterator[list[TrainingRow]]:
    """Parts of up to `budget` tokens (one row at least), longest rows first."""
    part: list[TrainingRow] = []
    tokens = 0
    for row in sorted(rows, key=lambda row: len(row.tree), reverse=True):
        if part and tokens + len(row.tree) > budget:
            yield part
            part, tokens = [], 0
        part.append(row)
        tokens += len(row.tree)
    if part:
        yield part
