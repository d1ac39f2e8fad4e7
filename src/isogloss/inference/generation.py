"""Generation: greedy text in batches, each row taken out as soon as its answer is given.

Suffixes of names: B rows of a batch, T tokens, K key-value heads, E size of a head, D hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, takewhile
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from isogloss.distributed import processes
from isogloss.models.forward import can_share, finish_passes, forward, hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import decoder, logits
from isogloss.models.memory import token_budget
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.tokenisation import bos_tokens

TOKENS_PER_BATCH = 12288  # prompt and budget of all rows: what the key-value cache has to hold


class Generated(NamedTuple):
    """Generated text, and whether it came to its end or only to the end of its budget."""

    text: str
    ended: bool


@processes.no_gradients
def generate(
    model: LanguageModel,
    contexts: Sequence[str],
    max_new_tokens: int,
    complete: Sequence[Callable[[str], bool]],
    *,
    chat: bool = False,
    done: Callable[[int], object] = lambda count: None,
) -> list[Generated]:
    """Greedy continuation of each context, in their order.

    A row ends at an end-of-sequence token, at `max_new_tokens`, or once its own `complete(text)`
    holds; it leaves the batch and the key-value cache then. Contexts that begin alike share what
    they begin with while they are read. In float32 a row's text does not depend on the batch, save
    where two tokens are equally likely to rounding: it is that of transformers' `generate`. `done`
    is told with each token how many rows have ended.
    """
    tokenizer = model.tokenizer
    first = bos_tokens(tokenizer, chat)
    ids = tokenizer(list(contexts), add_special_tokens=False).input_ids if contexts else []
    prompts = [first + tokens for tokens in ids]
    ends = model.network.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    ends = set() if ends is None else set(ends) if isinstance(ends, list) else {ends}
    found: dict[int, Generated] = {}
    for rows in _batches(prompts, max_new_tokens):
        written: dict[int, list[int]] = {row: [] for row in rows}
        batch = _Batch(model, [prompts[row] for row in rows], max_new_tokens)
        while rows:
            tokens = batch.next_tokens()
            for row, token in zip(rows, tokens, strict=True):
                written[row].append(token)
            texts = tokenizer.batch_decode([written[row] for row in rows], skip_special_tokens=True)
            for row, token, text in zip(rows, tokens, texts, strict=True):
                ended = token in ends or complete[row](text)
                if ended or len(written[row]) == max_new_tokens:
                    found[row] = Generated(text, ended)
            running = [at for at, row in enumerate(rows) if row not in found]
            done(len(rows) - len(running))
            if len(running) < len(rows):
                batch.keep(running)
                rows = [rows[at] for at in running]
    finish_passes(model)
    return [found[row] for row in range(len(prompts))]


def _batches(prompts: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Indices of prompts, longest first, as many as TOKENS_PER_BATCH holds."""
    batch: list[int] = []
    for row in sorted(range(len(prompts)), key=lambda row: len(prompts[row]), reverse=True):
        if batch and (len(batch) + 1) * (len(prompts[batch[0]]) + budget) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class _Batch:
    """Rows that are being written, side by side, with their key-value cache."""

    def __init__(self, model: LanguageModel, prompts: Sequence[Sequence[int]], budget: int):
        self.model = model
        read = _read_shared if can_share(model) else _read_padded
        self.cache, self.states_BD = read(model, prompts, budget)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        self.positions_B = lengths.to(model.device)
        padding_B1 = (width - lengths)[:, None]
        self.mask_BT = (torch.arange(width)[None] >= padding_B1).long().to(model.device)
        self.tokens_B: torch.Tensor | None = None

    def next_tokens(self) -> list[int]:
        """The likeliest token after each row."""
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
        self.tokens_B = logits(self.model, self.states_BD).float().argmax(-1).to(self.model.device)
        tokens: list[int] = self.tokens_B.tolist()
        return tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        if not rows or self.tokens_B is None:
            return
        rows_B = torch.tensor(rows, device=self.model.device)
        self.tokens_B = self.tokens_B[rows_B]
        self.positions_B = self.positions_B[rows_B]
        self.mask_BT = self.mask_BT[rows_B]
        self.cache.batch_select_indices(rows_B)


class _Room(DynamicLayer):  # type: ignore[misc]
    """Keys and values of a layer with room for those to come, which are not copied each time."""

    def __init__(self, keys_BKTE: torch.Tensor, values_BKTE: torch.Tensor, used: int):
        super().__init__()
        self.lazy_initialization(keys_BKTE, values_BKTE)
        self.keys, self.values, self.used = keys_BKTE, values_BKTE, used

    def update(
        self, keys_BKTE: torch.Tensor, values_BKTE: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write behind what is there; all keys and values up to the new ones."""
        start, self.used = self.used, self.used + keys_BKTE.shape[2]
        self.keys[:, :, start : self.used] = keys_BKTE
        self.values[:, :, start : self.used] = values_BKTE
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]

    def get_seq_length(self) -> int:
        """Tokens that are cached."""
        return self.used


def _read_shared(
    model: LanguageModel, prompts: Sequence[Sequence[int]], budget: int
) -> tuple[Cache, torch.Tensor]:
    """Cache and last states [B, D] of prompts, each token that they share computed once."""
    width = max(map(len, prompts))
    rooms: list[_Room] = []
    states_BD: list[Any] = [None] * len(prompts)
    for trees, nodes in _trees(prompts, token_budget(model)):
        flat = DynamicCache()
        last = [[path[-1] for path in paths.values()] for paths in nodes]
        found_ND = hidden_states(model, trees, last, flat)
        rows = [row for paths in nodes for row in paths]
        starts = [0, *accumulate(map(len, trees))]
        shifted = [
            [start + node for node in path]
            for start, paths in zip(starts, nodes, strict=False)
            for path in paths.values()
        ]
        if not rooms:
            rooms = [_room(model, layer, len(prompts), width, budget) for layer in flat.layers]
        for room, layer in zip(rooms, flat.layers, strict=True):
            for row, path in zip(rows, shifted, strict=True):
                at = slice(width - len(path), width)
                room.keys[row, :, at] = layer.keys[0][:, path]
                room.values[row, :, at] = layer.values[0][:, path]
        for row, state_D in zip(rows, found_ND, strict=True):
            states_BD[row] = state_D
    return Cache(layers=rooms), torch.stack(states_BD)


def _room(model: LanguageModel, layer: DynamicLayer, rows: int, width: int, budget: int) -> _Room:
    """Room for the keys and values that a layer of a flat cache has, and for those to come."""
    dtype = layer.keys.dtype if model.dtype == torch.float32 else model.dtype
    keys, values = (
        torch.zeros(rows, of.shape[1], width + budget, of.shape[3], dtype=dtype, device=of.device)
        for of in (layer.keys, layer.values)
    )
    return _Room(keys, values, width)


def _trees(
    prompts: Sequence[Sequence[int]], most: int
) -> Iterator[tuple[list[TokenTree], list[dict[int, list[int]]]]]:
    """Trees of prompts that have at least half in common, and the nodes of each prompt in them;
    some at a time, up to `most` tokens.
    """
    trees: list[TokenTree] = []
    nodes: list[dict[int, list[int]]] = []
    before: Sequence[int] = ()
    for prompt, row in sorted((list(prompt), row) for row, prompt in enumerate(prompts)):
        common = sum(
            1 for _ in takewhile(lambda two: two[0] == two[1], zip(before, prompt, strict=False))
        )
        if 2 * common < len(prompt):
            if sum(map(len, trees)) + len(prompt) > most and trees:
                yield trees, nodes
                trees, nodes = [], []
            trees.append(TokenTree())
            nodes.append({})
        nodes[-1][row] = trees[-1].insert(prompt)
        before = prompt
    yield trees, nodes


def _read_padded(
    model: LanguageModel, prompts: Sequence[Sequence[int]], budget: int
) -> tuple[Cache, torch.Tensor]:
    """The same with the model's own attention: a row each, padded on the left."""
    width = max(map(len, prompts))
    tokens_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    mask_BT = torch.zeros_like(tokens_BT)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, width - len(prompt) :] = torch.tensor(prompt)
        mask_BT[row, width - len(prompt) :] = 1
    cache = DynamicCache(config=decoder(model).config)
    states_BD = forward(
        model,
        lambda hidden_BTD: hidden_BTD[:, -1],
        input_ids=tokens_BT.to(model.device),
        attention_mask=mask_BT.to(model.device),
        position_ids=(mask_BT.cumsum(-1) - 1).clamp(min=0).to(model.device),
        past_key_values=cache,
        use_cache=True,
    )
    return cache, states_BD
