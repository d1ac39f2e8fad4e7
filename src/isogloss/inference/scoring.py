"""Scoring: the log-likelihood of each choice of each item, exactly, with nothing computed twice.

Suffixes of names: N positions with logits, D hidden size, V vocabulary.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from isogloss.distributed import processes
from isogloss.errors import ModelError
from isogloss.models.forward import finish_passes, hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import can_split, logit_parts
from isogloss.models.memory import out_of_memory, token_budget
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.tasks import Item

POSITIONS_PER_HEAD = 512  # whose logits are computed at a time, by parts of the vocabulary
POSITIONS_OF_WHOLE = 64  # of a head that cannot be split: Gemma's logits are 1 MB a position


class ItemScores(NamedTuple):
    """Log-likelihood (nats) of each choice, and the one that greedy decoding gives (-1: none)."""

    loglikelihoods: tuple[float, ...]
    greedy: int


class _Row(NamedTuple):
    """A tree and, for each choice in it, the node before and the id of each token."""

    tree: TokenTree
    choices: list[tuple[int, int, list[tuple[int, int]]]]  # item, choice, [(node before, token)]

    @property
    def wanted(self) -> list[int]:
        return sorted({node for _, _, tokens in self.choices for node, _ in tokens})


def _row(encoded: Sequence[EncodedPrompt], choices: Iterable[tuple[int, int]]) -> _Row:
    row = _Row(TokenTree(), [])
    for item, choice in choices:
        sequence, start = encoded[item].sequences[choice], encoded[item].starts[choice]
        path = row.tree.insert(sequence[:-1])
        pairs = list(zip(path[start - 1 :], sequence[start:], strict=True))
        row.choices.append((item, choice, pairs))
    return row


def _rows(items: Sequence[Item], encoded: Sequence[EncodedPrompt], share: bool) -> list[_Row]:
    """A row for each passage, or for each choice of each item, longest first."""
    together: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    for index, item in enumerate(items):
        for choice in range(len(encoded[index].sequences)):
            key = (item.language, item.passage_id) if share else (index, choice)
            together[key].append((index, choice))
    rows = [_row(encoded, choices) for choices in together.values()]
    return sorted(rows, key=lambda row: len(row.tree), reverse=True)


class _Pending(NamedTuple):
    """Hidden states that wait for the head, and what is wanted of the logits after them."""

    states: list[torch.Tensor]
    targets: list[tuple[int, int, int, int]]  # item, choice, position, token

    @property
    def positions(self) -> int:
        return sum(map(len, self.states))


@processes.no_gradients
def score(
    model: LanguageModel,
    encoded: Sequence[EncodedPrompt],
    items: Sequence[Item],
    share: bool,
    done: Callable[[int], object] = lambda count: None,
    *,
    float32_head: bool = False,
    tokens_per_batch: int | None = None,
) -> list[ItemScores]:
    """Scores of each item under the model as it stands (see `LanguageModel.using`).

    `share` lets questions of a passage and choices of a question use the same computation; without
    it each choice is a sequence of its own. In float32 the two agree to rounding, and so do batches
    of any size: within 2e-4 nats. `float32_head` is that of `lm_head.logits`. Batches have
    `tokens_per_batch` tokens, by default what free memory allows (`memory.token_budget`); one that
    memory runs out on is halved and tried again. `done` is told after each batch how many more
    items are in progress or finished. Raises ModelError if memory does not hold a single choice.
    """
    begun: set[int] = set()
    likelihoods = [[0.0] * len(entry.sequences) for entry in encoded]
    greedy = [[True] * len(entry.sequences) for entry in encoded]
    pending = _Pending([], [])
    rows = deque(_rows(items, encoded, share))
    budget = tokens_per_batch or token_budget(model)
    most = POSITIONS_PER_HEAD if can_split(model) else POSITIONS_OF_WHOLE
    while rows:
        batch = _take(rows, budget)
        try:
            hidden_ND = hidden_states(
                model,
                [row.tree for row in batch],
                [row.wanted for row in batch],
                float32_head=float32_head,
            )
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or processes.sharded():
                raise
            budget = max(sum(len(row.tree) for row in batch) // 2, 1)
            rows.extendleft(reversed(_split(batch, encoded, error)))
            continue
        offset = pending.positions
        pending.states.append(hidden_ND)
        for row in batch:
            place = {node: offset + at for at, node in enumerate(row.wanted)}
            offset += len(place)
            pending.targets.extend(
                (item, choice, place[node], token)
                for item, choice, pairs in row.choices
                for node, token in pairs
            )
        if pending.positions >= most or not rows:
            found = _head(model, pending, most, float32_head)
            for (item, choice, _, _), (logprob, agrees) in zip(pending.targets, found, strict=True):
                likelihoods[item][choice] += logprob
                greedy[item][choice] &= agrees
            pending = _Pending([], [])
        met = {item for row in batch for item, _, _ in row.choices} - begun
        begun |= met
        done(len(met))
    finish_passes(model)
    return [
        ItemScores(tuple(values), _greedy_choice(entry, flags))
        for entry, values, flags in zip(encoded, likelihoods, greedy, strict=True)
    ]


def _take(rows: deque[_Row], budget: int) -> list[_Row]:
    """Rows from the left up to the budget of tokens, one at least."""
    batch = [rows.popleft()]
    tokens = len(batch[0].tree)
    while rows and tokens + len(rows[0].tree) <= budget:
        batch.append(rows.popleft())
        tokens += len(batch[-1].tree)
    return batch


def _split(batch: list[_Row], encoded: Sequence[EncodedPrompt], error: BaseException) -> list[_Row]:
    """The same work in smaller rows, where a single row was too much; ModelError for a choice."""
    if len(batch) > 1:
        return batch
    choices = [(item, choice) for item, choice, _ in batch[0].choices]
    if len(choices) == 1:
        raise ModelError(
            f"out of memory with a single sequence of {len(batch[0].tree)} tokens "
            f"({str(error).strip().splitlines()[0][:200]})."
        ) from error
    half = len(choices) // 2
    return [_row(encoded, choices[:half]), _row(encoded, choices[half:])]


def _head(
    model: LanguageModel, pending: _Pending, most: int, float32_head: bool
) -> list[tuple[float, bool]]:
    """Of each target the log-probability of its token, and whether it is the likeliest one; at most
    `most` positions at a time.
    """
    hidden_ND = torch.cat(pending.states)
    wanted: dict[int, list[int]] = defaultdict(list)  # by part of the positions
    for at, (_, _, place, _) in enumerate(pending.targets):
        wanted[place // most].append(at)
    found = [(0.0, False)] * len(pending.targets)
    for part, some in wanted.items():
        start = part * most
        places = [pending.targets[at][2] - start for at in some]
        tokens = [pending.targets[at][3] for at in some]
        read = _read(model, hidden_ND[start : start + most], places, tokens, float32_head)
        for at, one in zip(some, read, strict=True):
            found[at] = one
    return found


def _read(
    model: LanguageModel,
    hidden_ND: torch.Tensor,
    places: Sequence[int],
    tokens: Sequence[int],
    float32_head: bool,
) -> Iterator[tuple[float, bool]]:
    """Log-probability of each token after the state at its place, and whether it is the likeliest,
    the first of equals.
    """
    device = hidden_ND.device
    place_M, token_M = torch.tensor(places, device=device), torch.tensor(tokens, device=device)
    logit_M = torch.zeros(len(tokens), dtype=torch.float64, device=device)
    leads_M = torch.zeros(len(tokens), dtype=torch.bool, device=device)  # of its part's tokens
    top_N = torch.full((len(hidden_ND),), -torch.inf, device=device)
    top_part_N = torch.zeros(len(hidden_ND), dtype=torch.long, device=device)
    total_N = torch.full_like(top_N, -torch.inf, dtype=torch.float64)
    part_M = torch.zeros_like(token_M)
    for start, logits_NV in logit_parts(model, hidden_ND, float32_head=float32_head):
        logits_NV = logits_NV.to(device).float()
        highest_N = logits_NV.amax(-1)
        top_part_N = torch.where(highest_N > top_N, start, top_part_N)
        top_N = torch.maximum(highest_N, top_N)
        total_N = torch.logaddexp(total_N, logits_NV.logsumexp(-1).double())
        here = ((token_M >= start) & (token_M < start + logits_NV.shape[1])).nonzero()[:, 0]
        rows_NV, tokens_N = logits_NV[place_M[here]], token_M[here] - start
        logit_M[here] = rows_NV.gather(-1, tokens_N[:, None])[:, 0].double()
        leads_M[here] = rows_NV.argmax(-1) == tokens_N
        part_M[here] = start
    leads_M &= top_part_N[place_M] == part_M
    logprob_M = logit_M - total_N[place_M]
    return zip(logprob_M.tolist(), leads_M.tolist(), strict=True)


def _greedy_choice(entry: EncodedPrompt, flags: Sequence[bool]) -> int:
    # Where one option begins another ("1" and "10"), greedy decoding goes on to the longer one.
    agreeing = [choice for choice, agrees in enumerate(flags) if agrees]
    return max(agreeing, key=lambda choice: len(entry.sequences[choice]), default=-1)
