"""Scoring: the exact log-likelihood of each choice of each item, without repeated computation.

`reference.reference_scores` computes the same on one page. Here prompts of a passage and choices of
a prompt share a tree of tokens (see `models.forward`), and the head is applied only to hidden
states before the tokens of choices, in parts of the vocabulary.

Suffixes of names: N positions with hidden states, M target tokens, D hidden size, V vocabulary.
"""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from isogloss.compat.torch import on_device
from isogloss.distributed import processes
from isogloss.errors import ModelError
from isogloss.inference.progress import Progress, no_progress
from isogloss.models.forward import finish_passes, hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import can_split, logit_parts
from isogloss.models.memory import out_of_memory, token_budget
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.tasks import Item

POSITIONS_PER_HEAD = 512  # whose logits are computed at a time, in parts of the vocabulary
POSITIONS_PER_WHOLE_HEAD = 64  # for a head that cannot be split: Gemma has 1 MB of logits each


class ItemScores(NamedTuple):
    """Log-likelihood (nats) of each choice, and which one greedy decoding gives (-1: none).

    `bounded` says that some are only what they can be at most; that occurs with servers.
    """

    loglikelihoods: tuple[float, ...]
    greedy: int
    bounded: bool = False


class _Choice(NamedTuple):
    """A choice in a tree: for each of its tokens, the node before the token and the token's id."""

    item: int
    choice: int
    tokens: list[tuple[int, int]]


class _Row(NamedTuple):
    """A tree of tokens and the choices in it."""

    tree: TokenTree
    choices: list[_Choice]

    @property
    def nodes(self) -> list[int]:
        """The nodes whose hidden states are needed."""
        return sorted({node for choice in self.choices for node, _ in choice.tokens})


class _Target(NamedTuple):
    """A token of a choice, and the position of the hidden state before it."""

    item: int
    choice: int
    position: int
    token: int


class _Pending(NamedTuple):
    """Hidden states that wait for the head, and the tokens to score after them."""

    states: list[torch.Tensor]
    targets: list[_Target]

    @property
    def n_positions(self) -> int:
        return sum(map(len, self.states))


class _TokenScores(NamedTuple):
    """Log-probability of each target, and whether its token is the most likely one.

    The values stay on the device until all batches are done: reading them waits for its work.
    """

    targets: list[_Target]
    logprobs: torch.Tensor
    is_greedy: torch.Tensor


@processes.no_gradients
def score(
    model: LanguageModel,
    encoded: Sequence[EncodedPrompt],
    items: Sequence[Item],
    share: bool,
    progress: Progress = no_progress,
    *,
    float32_head: bool = False,
    tokens_per_batch: int | None = None,
) -> list[ItemScores]:
    """Score the choices of each prompt under the model's active adapter.

    With `share`, the prompts of `items` that have one language and passage share computation, and
    so do the choices of a prompt; this needs `paths.can_share`. Without it, `items` are not used
    and every choice is a sequence of its own. In float32, results with and without sharing and for
    any batch size agree within 2e-4 nats. `float32_head` is that of `lm_head.logits`.

    Batches have `tokens_per_batch` tokens, by default `memory.token_budget`. A batch that exhausts
    memory is halved and tried again. `progress` is called after each batch with the number of items
    newly begun. Raises ModelError if a single choice does not fit in memory.
    """
    begun: set[int] = set()
    loglikelihoods = [[0.0] * len(entry.sequences) for entry in encoded]
    is_greedy = [[True] * len(entry.sequences) for entry in encoded]
    pending, scored = _Pending([], []), list[_TokenScores]()
    rows = deque(_rows(items, encoded, share))
    budget = tokens_per_batch or token_budget(model)
    most = POSITIONS_PER_HEAD if can_split(model) else POSITIONS_PER_WHOLE_HEAD
    while rows:
        batch = _take(rows, budget)
        trees, nodes = [row.tree for row in batch], [row.nodes for row in batch]
        try:
            hidden_ND = hidden_states(model, trees, nodes, float32_head=float32_head)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or processes.sharded():
                raise
            budget = max(sum(map(len, trees)) // 2, 1)
            rows.extendleft(reversed(_split(batch, encoded, error)))
            continue
        pending.targets.extend(_targets(batch, pending.n_positions))
        pending.states.append(hidden_ND)
        if pending.n_positions >= most or not rows:
            scored += _token_scores(model, pending, most, float32_head)
            pending = _Pending([], [])
        newly_begun = {choice.item for row in batch for choice in row.choices} - begun
        begun |= newly_begun
        progress(len(newly_begun))
    finish_passes(model)
    for part in scored:
        values = zip(part.targets, part.logprobs.tolist(), part.is_greedy.tolist(), strict=True)
        for target, logprob, agrees in values:
            loglikelihoods[target.item][target.choice] += logprob
            is_greedy[target.item][target.choice] &= agrees
    return [
        ItemScores(tuple(sums), _greedy_choice(entry, flags))
        for entry, sums, flags in zip(encoded, loglikelihoods, is_greedy, strict=True)
    ]


def _rows(items: Sequence[Item], encoded: Sequence[EncodedPrompt], share: bool) -> list[_Row]:
    """Return one row per passage, or per choice without `share`, the longest first."""
    groups: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
    for index, entry in enumerate(encoded):
        for choice in range(len(entry.sequences)):
            key = (items[index].language, items[index].passage_id) if share else (index, choice)
            groups[key].append((index, choice))
    rows = [_row(encoded, choices) for choices in groups.values()]
    return sorted(rows, key=lambda row: len(row.tree), reverse=True)


def _row(encoded: Sequence[EncodedPrompt], choices: Iterable[tuple[int, int]]) -> _Row:
    row = _Row(TokenTree(), [])
    for item, choice in choices:
        sequence, start = encoded[item].sequences[choice], encoded[item].starts[choice]
        path = row.tree.insert(sequence[:-1])
        tokens = list(zip(path[start - 1 :], sequence[start:], strict=True))
        row.choices.append(_Choice(item, choice, tokens))
    return row


def _take(rows: deque[_Row], budget: int) -> list[_Row]:
    """Remove rows from the left, up to the budget of tokens but at least one."""
    batch = [rows.popleft()]
    n_tokens = len(batch[0].tree)
    while rows and n_tokens + len(rows[0].tree) <= budget:
        batch.append(rows.popleft())
        n_tokens += len(batch[-1].tree)
    return batch


def _split(batch: list[_Row], encoded: Sequence[EncodedPrompt], error: BaseException) -> list[_Row]:
    """Return a batch to be retried in halves: a single row in two rows. ModelError for a choice."""
    if len(batch) > 1:
        return batch
    choices = [(choice.item, choice.choice) for choice in batch[0].choices]
    if len(choices) == 1:
        raise ModelError(
            f"out of memory with a single sequence of {len(batch[0].tree)} tokens "
            f"({str(error).strip().splitlines()[0][:200]})."
        ) from error
    half = len(choices) // 2
    return [_row(encoded, choices[:half]), _row(encoded, choices[half:])]


def _targets(batch: Sequence[_Row], offset: int) -> Iterator[_Target]:
    """Yield the tokens of all choices of a batch whose hidden states begin at position `offset`."""
    for row in batch:
        position = {node: offset + index for index, node in enumerate(row.nodes)}
        offset += len(position)
        for choice in row.choices:
            for node, token in choice.tokens:
                yield _Target(choice.item, choice.choice, position[node], token)


def _token_scores(
    model: LanguageModel, pending: _Pending, most: int, float32_head: bool
) -> Iterator[_TokenScores]:
    """Score the pending targets, with the logits of at most `most` positions at a time."""
    hidden_ND = torch.cat(pending.states)
    by_part: dict[int, list[_Target]] = defaultdict(list)
    for target in pending.targets:
        by_part[target.position // most].append(target)
    for part, targets in by_part.items():
        start = part * most
        positions = [target.position - start for target in targets]
        tokens = [target.token for target in targets]
        part_ND = hidden_ND[start : start + most]
        yield _TokenScores(targets, *_score_tokens(model, part_ND, positions, tokens, float32_head))


def _score_tokens(
    model: LanguageModel,
    hidden_ND: torch.Tensor,
    positions: Sequence[int],
    tokens: Sequence[int],
    float32_head: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [M] of tokens after the states at `positions`, and which are most likely.

    The most likely token is the first of equally likely ones, as with argmax.
    """
    device = hidden_ND.device
    position_M, token_M = on_device(positions, device), on_device(tokens, device)
    logit_M = torch.zeros(len(tokens), dtype=torch.float64, device=device)
    leads_part_M = torch.zeros(len(tokens), dtype=torch.bool, device=device)
    part_M = torch.zeros_like(token_M)
    top_N = torch.full((len(hidden_ND),), -torch.inf, device=device)
    top_part_N = torch.zeros(len(hidden_ND), dtype=torch.long, device=device)
    total_N = torch.full_like(top_N, -torch.inf, dtype=torch.float64)
    for start, logits_NV in logit_parts(model, hidden_ND, float32_head=float32_head):
        logits_NV = logits_NV.to(device).float()
        highest_N = logits_NV.amax(-1)
        top_part_N = torch.where(highest_N > top_N, start, top_part_N)
        top_N = torch.maximum(highest_N, top_N)
        total_N = torch.logaddexp(total_N, logits_NV.logsumexp(-1).double())
        stop = start + logits_NV.shape[1]
        in_part = [at for at, token in enumerate(tokens) if start <= token < stop]
        index_P = on_device(in_part, device, torch.long)
        logits_PV, token_P = logits_NV[position_M[index_P]], token_M[index_P] - start
        logit_M[index_P] = logits_PV.gather(-1, token_P[:, None])[:, 0].double()
        leads_part_M[index_P] = logits_PV.argmax(-1) == token_P
        part_M[index_P] = start
    is_greedy_M = leads_part_M & (top_part_N[position_M] == part_M)
    return logit_M - total_N[position_M], is_greedy_M


def _greedy_choice(entry: EncodedPrompt, flags: Sequence[bool]) -> int:
    # If one option begins another ("1" and "10"), greedy decoding gives the longer.
    greedy = [choice for choice, is_greedy in enumerate(flags) if is_greedy]
    return max(greedy, key=lambda choice: len(entry.sequences[choice]), default=-1)
