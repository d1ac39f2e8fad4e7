"""Prefill: the key-value cache and the last hidden state of a batch of prompts.

Suffixes of names: B rows of a batch, T tokens, K key-value heads, E size of a head, N nodes of
prefix trees, D hidden size.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, takewhile
from typing import NamedTuple, cast

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from isogloss.compat.transformers import empty_cache
from isogloss.models.forward import forward, hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.memory import token_budget
from isogloss.models.paths import can_share
from isogloss.models.prefix_tree import TokenTree


class PreallocatedLayer(DynamicLayer):
    """Keys and values of a layer in tensors with room for new tokens.

    transformers' DynamicLayer copies all keys and values with each new token.
    """

    def __init__(self, keys_BKTE: torch.Tensor, values_BKTE: torch.Tensor, length: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys_BKTE, values_BKTE)
        self.keys, self.values, self.length = keys_BKTE, values_BKTE, length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [B, K, T, E]; return all of them up to the new ones."""
        start, self.length = self.length, self.length + key_states.shape[2]
        keys_BKTE, values_BKTE = keys_values(self)
        keys_BKTE[:, :, start : self.length] = key_states
        values_BKTE[:, :, start : self.length] = value_states
        return keys_BKTE[:, :, : self.length], values_BKTE[:, :, : self.length]

    def get_seq_length(self) -> int:
        """Return the number of cached tokens."""
        return self.length


def prefill(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> tuple[Cache, torch.Tensor]:
    """Return the key-value cache of the prompts, aligned right, and their last states [B, D].

    Prompts that begin with the same tokens share their computation, if the model can share. The
    cache has room for `max_new_tokens` more tokens then.
    """
    if can_share(model):
        return _prefill_shared(model, prompts, max_new_tokens)
    return _prefill_padded(model, prompts)


class TreePass(NamedTuple):
    """Keys and values of some prompts in one row of nodes, and their last states [N, D].

    `rows` are the places of these prompts among all prompts, `paths` their nodes in the row.
    """

    rows: list[int]
    paths: list[list[int]]
    layers: Sequence[object]
    last_states: torch.Tensor


def tree_passes(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> Iterator[TreePass]:
    """Run prefix trees of the prompts, as many in a pass as the memory holds."""
    for trees, paths in _trees(prompts, token_budget(model)):
        flat = DynamicCache()
        last_nodes = [[path[-1] for path in by_row.values()] for by_row in paths]
        states_ND = hidden_states(model, trees, last_nodes, flat)
        offsets = [0, *accumulate(map(len, trees))]
        flat_paths = [
            [offset + node for node in path]
            for offset, by_row in zip(offsets, paths, strict=False)
            for path in by_row.values()
        ]
        yield TreePass(
            [row for by_row in paths for row in by_row], flat_paths, flat.layers, states_ND
        )


def _prefill_shared(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> tuple[Cache, torch.Tensor]:
    """Run prefix trees of the prompts and copy each prompt's keys and values into its own row."""
    width = max(map(len, prompts))
    layers: list[PreallocatedLayer] = []
    last_states: dict[int, torch.Tensor] = {}
    for rows, paths, flat_layers, states_ND in tree_passes(model, prompts):
        if not layers:
            layers = [
                _empty_layer(model, layer, len(prompts), width, max_new_tokens)
                for layer in flat_layers
            ]
        for layer, flat_layer in zip(layers, flat_layers, strict=True):
            for target_BKTE, flat_1KTE in zip(
                keys_values(layer), keys_values(flat_layer), strict=True
            ):
                for row, path in zip(rows, paths, strict=True):
                    target_BKTE[row, :, width - len(path) : width] = flat_1KTE[0][:, path]
        last_states.update(zip(rows, states_ND, strict=True))
    states_BD = torch.stack([last_states[row] for row in range(len(prompts))])
    return Cache(layers=list(layers)), states_BD


def _empty_layer(
    model: LanguageModel, like: object, n_rows: int, width: int, max_new_tokens: int
) -> PreallocatedLayer:
    """Return a layer of `n_rows` with room for `width` and new tokens, with the heads of `like`."""
    keys, values = (
        torch.zeros(
            n_rows, tensor.shape[1], width + max_new_tokens, tensor.shape[3],
            dtype=tensor.dtype if model.dtype == torch.float32 else model.dtype,
            device=tensor.device,
        )
        for tensor in keys_values(like)
    )  # fmt: skip
    return PreallocatedLayer(keys, values, width)


def keys_values(layer: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the keys and values of a layer that has some."""
    layer = cast(DynamicLayer, layer)
    return cast("tuple[torch.Tensor, torch.Tensor]", (layer.keys, layer.values))


def _trees(
    prompts: Sequence[Sequence[int]], most_tokens: int
) -> Iterator[tuple[list[TokenTree], list[dict[int, list[int]]]]]:
    """Yield trees, up to `most_tokens` at a time, and by tree the path of each of its prompts.

    A prompt joins the tree of the prompt sorted before it if they share at least half its tokens.
    """
    trees: list[TokenTree] = []
    paths: list[dict[int, list[int]]] = []
    previous: Sequence[int] = ()
    for prompt, row in sorted((list(prompt), row) for row, prompt in enumerate(prompts)):
        pairs = zip(previous, prompt, strict=False)
        n_shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if 2 * n_shared < len(prompt):
            if sum(map(len, trees)) + len(prompt) > most_tokens and trees:
                yield trees, paths
                trees, paths = [], []
            trees.append(TokenTree())
            paths.append({})
        paths[-1][row] = trees[-1].insert(prompt)
        previous = prompt
    yield trees, paths


def _prefill_padded(
    model: LanguageModel, prompts: Sequence[Sequence[int]]
) -> tuple[Cache, torch.Tensor]:
    """Run the prompts with the model's own attention, one row each, padded on the left."""
    width = max(map(len, prompts))
    tokens_BT = torch.zeros(len(prompts), width, dtype=torch.long)
    mask_BT = torch.zeros_like(tokens_BT)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, width - len(prompt) :] = torch.tensor(prompt)
        mask_BT[row, width - len(prompt) :] = 1
    cache = empty_cache(model.network)
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
