"""Forward passes over prefix trees: a shared prefix is computed once, and nothing is padded.

A tree is laid out as one segment of tokens in which each token attends only to its ancestors and
counts its position from the root. A causal model gives each token the same output as in a pass of
its own sequence alone (tree attention, as in SpecInfer, Miao et al., arXiv:2305.09781, section
4.2). The trees of a batch follow one another in a single row.

Suffixes of names: B rows of a batch, T tokens of a row or tree, N selected positions, D hidden
size, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from transformers.cache_utils import DynamicCache

from isogloss.compat.torch import on_device, replaced_forward
from isogloss.compat.transformers import replaced_attention
from isogloss.distributed import processes
from isogloss.models.compilation import compiled_layers
from isogloss.models.cpu_layers import lighter_layers
from isogloss.models.language_model import Batching, LanguageModel, Paths
from isogloss.models.lm_head import head_at, whole_passes
from isogloss.models.prefix_tree import TokenTree
from isogloss.models.tree_attention import NAME, Row

# Modules of a layer that treat every token separately and feed only the output of that token.
TOKENWISE = ("q_proj", "o_proj", "mlp")
STATES = ("past_key_values", "cache_params", "state")  # a model's cache, in its inputs and outputs


def hidden_states(
    model: LanguageModel,
    trees: Sequence[TokenTree],
    nodes: Sequence[Sequence[int]],
    cache: DynamicCache | None = None,
    *,
    float32_head: bool = False,
    contexts: ExitStack | None = None,
) -> torch.Tensor:
    """The last hidden states [N, D] at selected nodes of a batch of trees, for `lm_head.logits`.

    `nodes[b]` are nodes of `trees[b]`; the result has one row per node, in that order. The keys and
    values of all nodes are written to `cache`, tree after tree, in a single row. Without
    `Batching.TREE` each sequence is computed in a row of its own, and `cache` is not filled. A
    backward pass that recomputes layers needs the contexts of the forward pass: they are entered
    into `contexts`.
    """
    paths = model.paths or Paths()
    longest = max(max(tree.depths) + 1 for tree in trees)
    if paths.longest is not None and longest > paths.longest:
        return _row_states(model, trees, nodes, float32_head, most_rows=1)
    if paths.batching == Batching.TREE:
        return _tree_states(model, trees, nodes, cache, float32_head, contexts)
    most_rows = None if paths.batching == Batching.PADDED else 1
    return _row_states(model, trees, nodes, float32_head, most_rows)


def _tree_states(
    model: LanguageModel,
    trees: Sequence[TokenTree],
    nodes: Sequence[Sequence[int]],
    cache: DynamicCache | None = None,
    float32_head: bool = False,
    contexts: ExitStack | None = None,
) -> torch.Tensor:
    """`hidden_states` with tree attention, all trees in one row."""
    device = model.device
    tokens_T = [token for tree in trees for token in tree.tokens]
    positions_T = [depth for tree in trees for depth in tree.depths]
    places: list[int] = []  # of the nodes in the row
    start = 0
    for tree, selected in zip(trees, nodes, strict=True):
        places.extend(start + node for node in selected)
        start += len(tree)
    places_N = on_device(places, device)
    with ExitStack() as this_pass:
        stack = contexts or this_pass
        stack.enter_context(replaced_attention(model.network, NAME))
        stack.enter_context(lighter_layers(model, caches=cache is not None))
        stack.enter_context(_last_layer_at(model, places_N, len(tokens_T)))
        if cache is None:
            stack.enter_context(compiled_layers(model))
        return forward(
            model,
            lambda hidden_1TD: hidden_1TD[0, places_N.to(hidden_1TD.device)],
            float32_head=float32_head,
            input_ids=on_device([tokens_T], device),
            position_ids=on_device([positions_T], device),
            past_key_values=cache,
            use_cache=cache is not None,
            row=Row.of(trees, device),
        )


@contextmanager
def _last_layer_at(model: LanguageModel, places_N: torch.Tensor, tokens: int) -> Iterator[None]:
    """Context in which the last layer computes the outputs at some places only.

    All other tokens contribute only keys and values to that layer.
    """
    layers = getattr(model.network.get_decoder(), "layers", None)
    with ExitStack() as stack:
        if layers is not None and 2 * len(places_N) < tokens:
            for name, module in layers[-1].named_modules():
                if name.rpartition(".")[-1] in TOKENWISE:
                    at_places = partial(_at, module.forward, places_N)
                    stack.enter_context(replaced_forward(module, at_places))
        yield


def _at(
    forward: Callable[..., torch.Tensor], places_N: torch.Tensor, hidden_1TD: torch.Tensor
) -> torch.Tensor:
    """A module's outputs for the tokens at these places, zeros for the others."""
    places_N = places_N.to(hidden_1TD.device)
    output_1ND = forward(hidden_1TD.index_select(1, places_N))
    output_1TD = output_1ND.new_zeros(1, hidden_1TD.shape[1], output_1ND.shape[-1])
    return output_1TD.index_copy_(1, places_N, output_1ND)


def _row_states(
    model: LanguageModel,
    trees: Sequence[TokenTree],
    nodes: Sequence[Sequence[int]],
    float32_head: bool = False,
    most_rows: int | None = None,
) -> torch.Tensor:
    """`hidden_states` with the model's own attention, one row per sequence, right-padded.

    A pass has up to `most_rows` rows; None for all of them. There are no masks or positions: those
    that a model makes by itself are right, because no token sees the padding behind it.
    """
    sequences: list[list[int]] = []
    places: list[tuple[int, int]] = []  # row and column of each node
    for tree, selected in zip(trees, nodes, strict=True):
        row_of: dict[int, int] = {}
        for path in tree.paths_to(selected):
            row_of.update(dict.fromkeys(path, len(sequences)))
            sequences.append([tree.tokens[node] for node in path])
        places.extend((row_of[node], tree.depths[node]) for node in selected)
    size = most_rows or len(sequences)
    states: dict[tuple[int, int], torch.Tensor] = {}
    for start in range(0, len(sequences), size):
        batch = sequences[start : start + size]
        width = max(map(len, batch))
        tokens_BT = torch.tensor([row + [0] * (width - len(row)) for row in batch])
        own = sorted({place for place in places if start <= place[0] < start + size})
        index = ([row - start for row, _ in own], [column for _, column in own])
        states_ND = forward(
            model,
            lambda hidden_BTD, index=index: hidden_BTD[index],  # type: ignore[misc]
            float32_head=float32_head,
            input_ids=tokens_BT.to(model.device),
            use_cache=False,
        )
        states.update(zip(own, states_ND, strict=True))
    return torch.stack([states[place] for place in places])


def forward(
    model: LanguageModel,
    select: Callable[[torch.Tensor], torch.Tensor],
    *,
    float32_head: bool = False,
    announced: bool = False,
    **inputs: object,
) -> torch.Tensor:
    """The last hidden states [N, D] that `select` takes from a pass, for `lm_head.logits`.

    With `whole_passes` the result is logits [N, V], which `lm_head.logits` returns unchanged. A
    pass with sharded weights is announced to the other processes, unless they take part already
    (`announced`).
    """
    with model.autocast():
        if not whole_passes(model):
            return select(model.network.get_decoder()(**inputs).last_hidden_state)
        if not announced:
            processes.any_needs_pass(True)
        with head_at(model, select if model.head_apart else None, float32_head=float32_head):
            logits = model.network(**inputs).logits
        return logits[0] if model.head_apart else select(logits)


def cached_logits(
    model: LanguageModel, tokens: Sequence[int], state: Mapping[str, object]
) -> tuple[torch.Tensor, dict[str, object]]:
    """Logits [V] after `tokens`, which follow the tokens that `state` stands for, and a new state.

    `state` is what this function returned for the tokens before, and is empty at the beginning: the
    cache or the recurrent state in the form that the model has for it.
    """
    processes.any_needs_pass(True)
    select = (lambda hidden_1TD: hidden_1TD[:, -1]) if model.head_apart else None
    with model.autocast(), head_at(model, select, float32_head=False):
        output = model.network(
            input_ids=torch.tensor([tokens], device=model.device), use_cache=True, **state
        )
    new = {name: getattr(output, name, None) for name in STATES}
    return output.logits[0, -1], {name: value for name, value in new.items() if value is not None}


def finish_passes(model: LanguageModel, *, backward: bool = False) -> None:
    """Join the passes of other processes until none of them needs the shards of this one."""
    while processes.any_needs_pass(False):
        token_11 = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        logits_1V = forward(model, lambda hidden: hidden[0, :1], announced=True, input_ids=token_11)
        if backward:
            torch.autograd.backward(0 * logits_1V.sum())
