"""What the parts share: items with their prompts as tokens, and the work that they need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from benchmarks.flops import Work
from isogloss.models.language_model import LanguageModel
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import EncodedPrompt, encode
from isogloss.tasks import Item
from isogloss.types import Format


@dataclass(frozen=True)
class Setting:
    """Where and with what a part measures. `quick` is for a CPU: a few items of each."""

    name: str  # of the model
    device: torch.device
    items: Sequence[Item]
    quick: bool


class Counts(NamedTuple):
    """Work of scoring: with passages and prompts shared, and with a sequence for every choice."""

    shared: Work
    separate: Work


def encoded_prompts(
    model: LanguageModel, items: Sequence[Item], kind: Format
) -> list[EncodedPrompt]:
    """The prompts of items with their choices, as tokens."""
    protocol = Protocol(kind)
    return encode(model.tokenizer, [prompt(item, protocol, model.tokenizer) for item in items])


def scoring_work(items: Sequence[Item], encoded: Sequence[EncodedPrompt]) -> Counts:
    """The least work for scoring, as `contenders.prepare` counts it.

    Common beginnings of a passage's prompts count once, the output of the last layer and the head
    only where a choice needs them; or every choice is a sequence of its own.
    """
    trees: dict[str, TokenTree] = {}
    needed = set()
    tokens = positions = 0
    for item, entry in zip(items, encoded, strict=True):
        tree = trees.setdefault(item.passage_id, TokenTree())
        for sequence, start in zip(*entry, strict=True):
            path = tree.insert(sequence[:-1])
            needed |= {(item.passage_id, node) for node in path[start - 1 :]}
            tokens, positions = tokens + len(sequence) - 1, positions + len(sequence) - start
    shared = Work(sum(map(len, trees.values())), len(needed), len(needed))
    return Counts(shared, Work(tokens, positions))
