"""Scoring: the log-likelihood of each choice of each item, exactly, with nothing computed twice.

Suffixes of names: N positions with logits, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from isogloss import processes
from isogloss.models import LanguageModel
from isogloss.packing import TokenTree, forward, idle_forward
from isogloss.prompts import Prompt
from isogloss.tasks import Item

TOKENS_PER_BATCH = 4096
POSITIONS_PER_BATCH = 384  # float32 logits of Gemma's 262,144 tokens: 1 MB a position


class EncodedPrompt(NamedTuple):
    """Token ids of context and continuation of each choice, and where the continuations begin."""

    sequences: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]


class ItemScores(NamedTuple):
    """Log-likelihood (nats) of each choice, and the one that greedy decoding gives (-1: none)."""

    loglikelihoods: tuple[float, ...]
    greedy: int


def first_tokens(tokenizer: Any, chat: bool) -> list[int]:
    """The beginning-of-sequence token if the tokenizer adds one; a chat template brings its own."""
    bos = tokenizer.bos_token_id
    adds = not chat and bos is not None and bos in tokenizer("").input_ids
    return [bos] if adds else []


def encode(tokenizer: Any, prompts: Sequence[Prompt], *, chat: bool = False) -> list[EncodedPrompt]:
    """Tokenise as lm-evaluation-harness does: context and continuation together, split at the
    length of the context alone, after a beginning-of-sequence token if the tokenizer adds one.
    """
    first = first_tokens(tokenizer, chat)
    texts = [entry.context for entry in prompts]
    texts += [entry.context + text for entry in prompts for text in entry.continuations]
    ids = iter(tokenizer(texts, add_special_tokens=False).input_ids) if texts else iter(())
    contexts = [len(first) + len(next(ids)) for _ in prompts]
    encoded = []
    for entry, start in zip(prompts, contexts, strict=True):
        sequences = tuple(tuple(first + next(ids)) for _ in entry.continuations)
        encoded.append(EncodedPrompt(sequences, (start,) * len(sequences)))
    return encoded


class _Row(NamedTuple):
    """A tree and, for each item in it, the node before and the id of each token of each choice."""

    tree: TokenTree
    items: list[tuple[int, int, list[tuple[int, int]]]]  # item, choice, [(node before, token)]

    @property
    def wanted(self) -> list[int]:
        return sorted({node for _, _, tokens in self.items for node, _ in tokens})


def _rows(items: Sequence[Item], encoded: Sequence[EncodedPrompt], share: bool) -> Iterator[_Row]:
    passages: dict[Any, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        passages[item.language, item.passage_id].append(index)
    for members in passages.values():
        row = _Row(TokenTree(), [])
        for index in members:
            for choice, (sequence, start) in enumerate(zip(*encoded[index], strict=True)):
                if not share:
                    row = _Row(TokenTree(), [])
                path = row.tree.insert(sequence[:-1])
                pairs = list(zip(path[start - 1 :], sequence[start:], strict=True))
                row.items.append((index, choice, pairs))
                if not share:
                    yield row
        if share:
            yield row


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Fill batches to the budgets of tokens and positions, longest rows first."""
    batch: list[_Row] = []
    positions = 0
    for row in sorted(rows, key=lambda row: len(row.tree), reverse=True):
        full = (len(batch) + 1) * len((batch or [row])[0].tree) > TOKENS_PER_BATCH
        if batch and (full or positions + len(row.wanted) > POSITIONS_PER_BATCH):
            yield batch
            batch, positions = [], 0
        batch.append(row)
        positions += len(row.wanted)
    if batch:
        yield batch


@processes.no_gradients
def score(
    model: LanguageModel,
    encoded: Sequence[EncodedPrompt],
    items: Sequence[Item],
    share: bool,
    done: Callable[[int], object] = lambda count: None,
    *,
    float32_head: bool = False,
) -> list[ItemScores]:
    """Scores of each item under the model as it stands (see `LanguageModel.using`).

    `share` lets questions of a passage and choices of a question use the same computation; without
    it each choice is a sequence of its own. In float32 the two agree to rounding. `float32_head` is
    that of `packing.forward`. `done` is told after each batch how many more items are in progress
    or finished.
    """
    begun: set[int] = set()
    likelihoods = [[0.0] * len(entry.sequences) for entry in encoded]
    greedy = [[True] * len(entry.sequences) for entry in encoded]
    with model.casts_kept():
        batches = list(_batches(_rows(items, encoded, share)))
        idle = processes.idle(len(batches))
        for batch in batches:
            logits_NV = forward(
                model,
                [row.tree for row in batch],
                [row.wanted for row in batch],
                float32_head=float32_head,
            ).float()
            normaliser_N = logits_NV.logsumexp(-1)
            argmax_N = logits_NV.argmax(-1)
            offset = 0
            targets: list[tuple[int, int, int, int]] = []  # item, choice, position, token
            for row in batch:
                place = {node: offset + at for at, node in enumerate(row.wanted)}
                offset += len(place)
                targets += [
                    (item, choice, place[node], token)
                    for item, choice, pairs in row.items
                    for node, token in pairs
                ]
            places = torch.tensor([place for _, _, place, _ in targets], device=model.device)
            tokens = torch.tensor([token for _, _, _, token in targets], device=model.device)
            logprobs = (logits_NV[places, tokens] - normaliser_N[places]).tolist()
            agrees = (argmax_N[places] == tokens).tolist()
            for (item, choice, _, _), logprob, agree in zip(targets, logprobs, agrees, strict=True):
                likelihoods[item][choice] += logprob
                greedy[item][choice] &= agree
            met = {item for item, _, _, _ in targets} - begun
            begun |= met
            done(len(met))
        for _ in range(idle):
            idle_forward(model)
    return [
        ItemScores(tuple(values), _greedy_choice(entry, flags))
        for entry, values, flags in zip(encoded, likelihoods, greedy, strict=True)
    ]


def _greedy_choice(entry: EncodedPrompt, flags: Sequence[bool]) -> int:
    # Where one option begins another ("1" and "10"), greedy decoding goes on to the longer one.
    agreeing = [choice for choice, agrees in enumerate(flags) if agrees]
    return max(agreeing, key=lambda choice: len(entry.sequences[choice]), default=-1)
