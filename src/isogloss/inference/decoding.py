"""Decoding: batches of texts that grow by one token at a time, and which kind a model can have.

The fastest kind whose logits equal those of whole passes is used; it is tried once per model.
Suffixes of names: B rows of a batch, T tokens, D hidden size, V vocabulary.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch

from isogloss.inference.prefill import prefill
from isogloss.inference.slots import Slots, usable
from isogloss.models.forward import cached_logits, forward, hidden_states
from isogloss.models.language_model import Decoding, LanguageModel
from isogloss.models.lm_head import logits
from isogloss.models.memory import out_of_memory
from isogloss.models.paths import MISFITS, proven_paths, same_logits, trial_sequences
from isogloss.models.prefix_tree import TokenTree

logger = logging.getLogger(__name__)


class Batch(Protocol):
    """Texts that are continued together."""

    def logits(self) -> torch.Tensor:
        """Logits [B, V] of the next token of each text."""

    def append(self, tokens: Sequence[int]) -> None:
        """Append one token to each text."""

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all other rows from the batch."""


class SlotBatch:
    """Texts in slots; tried on a model before `slot_decoding` uses them with it."""

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        fused: bool,
    ):
        self.rows = list(range(1, len(prompts) + 1))  # the first slot stays empty
        width = max(map(len, prompts)) + max_new_tokens
        self.slots = Slots(model, len(prompts) + 1, width, fused=fused)
        self.slots.fill(self.rows, [prompt[:-1] for prompt in prompts])
        self.append([prompt[-1] for prompt in prompts])

    def logits(self) -> torch.Tensor:
        """Logits [B, V] of the next token of each text."""
        self.slots.step()
        return self.slots.logits_SV[self.rows].clone()

    def append(self, tokens: Sequence[int]) -> None:
        """Append one token to each text."""
        self.slots.tokens_S[self.rows] = torch.tensor(tokens, device=self.slots.tokens_S.device)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave all other slots."""
        kept = [self.rows[row] for row in rows]
        self.slots.release([row for row in self.rows if row not in kept])
        self.rows = kept


class PaddedBatch:
    """Texts with one key-value cache, padded on the left."""

    def __init__(self, model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int):
        self.model = model
        self.cache, self.states_BD = prefill(model, prompts, max_new_tokens)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        self.positions_B = lengths.to(model.device)
        padding_B1 = (width - lengths)[:, None]
        self.mask_BT = (torch.arange(width)[None] >= padding_B1).long().to(model.device)
        self.tokens_B: torch.Tensor | None = None

    def logits(self) -> torch.Tensor:
        """Logits [B, V] of the next token of each text."""
        if self.tokens_B is not None:
            ones_B1 = torch.ones_like(self.mask_BT[:, :1])
            self.mask_BT = torch.cat([self.mask_BT, ones_B1], 1)
            self.states_BD = forward(
                self.model,
                lambda hidden_B1D: hidden_B1D[:, -1],
                input_ids=self.tokens_B[:, None],
                attention_mask=self.mask_BT,
                position_ids=self.positions_B[:, None],
                past_key_values=self.cache,
                use_cache=True,
            )
            self.positions_B = self.positions_B + 1
        return logits(self.model, self.states_BD)

    def append(self, tokens: Sequence[int]) -> None:
        """Append one token to each text."""
        self.tokens_B = torch.tensor(tokens, device=self.model.device)

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all other rows from the batch and the cache."""
        if not rows or self.tokens_B is None:
            return
        rows_B = torch.tensor(rows, device=self.model.device)
        self.tokens_B = self.tokens_B[rows_B]
        self.positions_B = self.positions_B[rows_B]
        self.mask_BT = self.mask_BT[rows_B]
        self.cache.batch_select_indices(rows_B)


class CachedRows:
    """Texts in passes of their own, each with the cache or state that the model returns."""

    def __init__(self, model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int):
        self.model = model
        self.tokens = [list(prompt) for prompt in prompts]  # that the state does not stand for yet
        self.states: list[dict[str, object]] = [{} for _ in prompts]

    def logits(self) -> torch.Tensor:
        """Logits [B, V] of the next token of each text."""
        rows = []
        for row, tokens in enumerate(self.tokens):
            logits_V, self.states[row] = cached_logits(self.model, tokens, self.states[row])
            rows.append(logits_V)
        return torch.stack(rows)

    def append(self, tokens: Sequence[int]) -> None:
        """Append one token to each text."""
        self.tokens = [[token] for token in tokens]

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all other rows."""
        self.tokens = [self.tokens[row] for row in rows]
        self.states = [self.states[row] for row in rows]


class UncachedRows:
    """Texts that are computed from their beginning for every token."""

    def __init__(self, model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int):
        self.model = model
        self.texts = [list(prompt) for prompt in prompts]

    def logits(self) -> torch.Tensor:
        """Logits [B, V] of the next token of each text."""
        trees = [TokenTree() for _ in self.texts]
        ends = [tree.insert(text)[-1:] for tree, text in zip(trees, self.texts, strict=True)]
        return logits(self.model, hidden_states(self.model, trees, ends))

    def append(self, tokens: Sequence[int]) -> None:
        """Append one token to each text."""
        self.texts = [[*text, token] for text, token in zip(self.texts, tokens, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all other rows."""
        self.texts = [self.texts[row] for row in rows]


SLOT_KINDS = (Decoding.FUSED, Decoding.SLOTS)
MakeBatch = Callable[[LanguageModel, Sequence[Sequence[int]], int], Batch]
BATCHES: dict[Decoding, MakeBatch] = {
    Decoding.FUSED: partial(SlotBatch, fused=True),
    Decoding.SLOTS: partial(SlotBatch, fused=False),
    Decoding.BATCHED: PaddedBatch,
    Decoding.CACHED: CachedRows,
    Decoding.UNCACHED: UncachedRows,
}


def start(model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Batch:
    """A batch of prompts of the fastest kind that is exact for them."""
    return BATCHES[decoding_of(model, prompts, max_new_tokens)](model, prompts, max_new_tokens)


def decoding_of(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> Decoding:
    """The fastest kind of decoding that is exact for these prompts."""
    longest = proven_paths(model).longest
    if longest is not None and max(map(len, prompts)) + max_new_tokens > longest:
        return Decoding.UNCACHED  # the cache has positions that a longer text changes
    return proven_decoding(model)


def proven_decoding(model: LanguageModel) -> Decoding:
    """The fastest decoding that gives the logits of whole passes; tried once per model."""
    if model.decoding is None:
        proven_paths(model)
        model.decoding = next(kind for kind in Decoding if _gives(model, kind))
        if model.decoding in DESCRIPTIONS:
            logger.info(f"{model.location.name}: {DESCRIPTIONS[model.decoding]} (slower)")
    return model.decoding


DESCRIPTIONS = {
    Decoding.CACHED: "its cache takes no padded batches; every text is generated separately",
    Decoding.UNCACHED: "its cache cannot be used; every new token is computed from the whole text",
}


def _gives(model: LanguageModel, kind: Decoding) -> bool:
    """Whether two texts of different lengths, continued by given tokens, get the right logits.

    Only the second text continues after the first step.
    """
    if kind == Decoding.UNCACHED:
        return True
    if kind in SLOT_KINDS and not usable(model, fused=kind == Decoding.FUSED):
        return False
    first, second = trial_sequences(model)
    n_first, n_second = len(first) - 4, len(second) - 3
    trees = TokenTree(), TokenTree()
    paths = [tree.insert(row) for tree, row in zip(trees, (first, second), strict=True)]
    nodes = [paths[0][n_first - 1 : n_first + 1], paths[1][n_second - 1 :]]
    expected_NV = logits(model, hidden_states(model, trees, nodes))
    computed = []
    try:
        batch = BATCHES[kind](model, [first[:n_first], second[:n_second]], 3)
        computed.append(batch.logits())
        batch.append([first[n_first], second[n_second]])
        computed.append(batch.logits())
        batch.append([0, second[n_second + 1]])
        batch.keep([1])
        computed.append(batch.logits())
        batch.append([second[n_second + 2]])
        computed.append(batch.logits())
    except MISFITS as error:
        if out_of_memory(error):
            raise
        return False
    # By text, as expected: two logits of the first, four of the second.
    (first_0, second_0), (first_1, second_1), (second_2,), (second_3,) = computed
    logits_NV = torch.stack([first_0, first_1, second_0, second_1, second_2, second_3])
    return same_logits(model, logits_NV, expected_NV, [2, 4])
