"""Forward passes over prefix trees: a shared prefix is computed once, and nothing is padded.

A tree is laid out as one segment of tokens in which each token attends only to its ancestors and
counts its position from the root. A causal model gives each token the same output as in a pass of
its own sequence alone (tree attention, as in SpecInfer, Miao et al., arXiv:2305.09781, section
4.2). The trees of a batch follow one another in a single row.

Suffixes of names: B rows of a batch, T tokens of a row or tree, N selected positions, D hidden
size, V vocabulary.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from transformers.cache_utils import DynamicCache

from isogloss.compat.torch import replaced_forward
from isogloss.compat.transformers import attention_replaceable, replaced_attention
from isogloss.distributed import processes
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import head_at, whole_passes
from isogloss.models.prefix_tree import TokenTree
from isogloss.models.tree_attention import NAME, Segment

logger = logging.getLogger(__name__)

# Modules of a layer that treat every token separately and feed only the output of that token.
TOKENWISE = ("q_proj", "o_proj", "mlp")


def can_share(model: LanguageModel) -> bool:
    """Whether the model gives the tokens of a tree the outputs it gives their sequences alone.

    Tested once per model on a small tree, because attention of another kind, or with terms of its
    own, shows only in the outputs. Attention windows are larger than that tree, so layers are also
    checked for their kind.
    """
    if model.shares is None:
        model.shares = attention_replaceable(model.network) and _tree_matches_sequences(model)
        if not model.shares:
            logger.info(
                f"{model.location.name}: its attention cannot share prefixes; every sequence is "
                "computed separately (slower)"
            )
    return model.shares


@processes.no_gradients
def _tree_matches_sequences(model: LanguageModel) -> bool:
    """Whether two sequences with a common stem get the same states in a tree and alone."""
    tree = TokenTree()
    last = min(len(model.tokenizer), model.network.config.get_text_config().vocab_size) - 1
    stem = [last - at % last for at in range(24)]
    sequences = [[*stem, *(at % last for at in branch)] for branch in (range(8), range(8, 20))]
    paths = [tree.insert(sequence) for sequence in sequences]
    chains = [TokenTree() for _ in sequences]
    alone = [chain.insert(sequence) for chain, sequence in zip(chains, sequences, strict=True)]
    alone_ND = _padded_states(model, chains, alone).float()
    ends = [path[-4:] for path in paths]  # few enough for `_last_layer_at`
    try:
        tree_ND = _tree_states(model, [tree], [paths[0] + paths[1]]).float()
        ends_ND = _tree_states(model, [tree], [ends[0] + ends[1]]).float()
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError):
        return False
    first, second = torch.split(alone_ND, [len(path) for path in paths])
    expected_ND = torch.cat([alone_ND, first[-4:], second[-4:]])
    errors_N = (torch.cat([tree_ND, ends_ND]) - expected_ND).norm(dim=-1)
    errors_N /= expected_ND.norm(dim=-1)
    parts = torch.split(errors_N, [len(stem), 8, len(stem), 12, 8])
    # Medians, because rounding in bfloat16 sends single tokens to other experts of a mixture.
    limit = 1e-3 if model.dtype == torch.float32 else 0.05
    return all(bool(part.median() < limit) for part in parts)


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
    `can_share` each sequence is computed in a row of its own, and `cache` is not filled. A backward
    pass that recomputes layers needs the contexts of the forward pass: they are entered into
    `contexts`.
    """
    if can_share(model):
        return _tree_states(model, trees, nodes, cache, float32_head, contexts)
    return _padded_states(model, trees, nodes, float32_head)


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
    segments: list[Segment] = []
    places: list[int] = []  # of the nodes in the row
    start = 0
    for tree, selected in zip(trees, nodes, strict=True):
        ancestors_TT = None if tree.is_chain else torch.from_numpy(tree.ancestors()).to(device)
        depths_T = torch.tensor(tree.depths, device=device)
        segments.append(Segment(len(tree), depths_T, ancestors_TT))
        places.extend(start + node for node in selected)
        start += len(tree)
    with ExitStack() as this_pass:
        stack = contexts or this_pass
        stack.enter_context(replaced_attention(model.network, NAME))
        stack.enter_context(_last_layer_at(model, places, len(tokens_T)))
        return forward(
            model,
            lambda hidden_1TD: hidden_1TD[0, torch.tensor(places, device=hidden_1TD.device)],
            float32_head=float32_head,
            input_ids=torch.tensor([tokens_T], device=device),
            position_ids=torch.tensor([positions_T], device=device),
            past_key_values=cache,
            use_cache=cache is not None,
            segments=segments,
        )


@contextmanager
def _last_layer_at(model: LanguageModel, places: Sequence[int], tokens: int) -> Iterator[None]:
    """Context in which the last layer computes the outputs at `places` only.

    All other tokens contribute only keys and values to that layer.
    """
    layers = getattr(model.network.get_decoder(), "layers", None)
    with ExitStack() as stack:
        if layers is not None and 2 * len(places) < tokens:
            for name, module in layers[-1].named_modules():
                if name.rpartition(".")[-1] in TOKENWISE:
                    at_places = partial(_at, module.forward, places)
                    stack.enter_context(replaced_forward(module, at_places))
        yield


def _at(
    forward: Callable[..., torch.Tensor], places: Sequence[int], hidden_1TD: torch.Tensor
) -> torch.Tensor:
    """A module's outputs for the tokens at `places`, zeros for the others."""
    places_N = torch.tensor(places, device=hidden_1TD.device)
    output_1ND = forward(hidden_1TD.index_select(1, places_N))
    output_1TD = output_1ND.new_zeros(1, hidden_1TD.shape[1], output_1ND.shape[-1])
    return output_1TD.index_copy_(1, places_N, output_1ND)


def _padded_states(
    model: LanguageModel,
    trees: Sequence[TokenTree],
    nodes: Sequence[Sequence[int]],
    float32_head: bool = False,
) -> torch.Tensor:
    """`hidden_states` with the model's own attention, one row per sequence, right-padded."""
    sequences: list[list[int]] = []
    rows: list[int] = []
    columns: list[int] = []
    for tree, selected in zip(trees, nodes, strict=True):
        row_of: dict[int, int] = {}
        for path in tree.paths_to(selected):
            row_of.update(dict.fromkeys(path, len(sequences)))
            sequences.append([tree.tokens[node] for node in path])
        rows.extend(row_of[node] for node in selected)
        columns.extend(tree.depths[node] for node in selected)
    lengths_B1 = torch.tensor([[len(sequence)] for sequence in sequences])
    tokens_BT = torch.zeros(len(sequences), int(lengths_B1.max()), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        tokens_BT[row, : len(sequence)] = torch.tensor(sequence)
    positions_BT = torch.arange(tokens_BT.shape[1]).expand_as(tokens_BT)
    return forward(
        model,
        lambda hidden_BTD: hidden_BTD[rows, columns],
        float32_head=float32_head,
        input_ids=tokens_BT.to(model.device),
        position_ids=positions_BT.to(model.device),
        attention_mask=(positions_BT < lengths_B1).to(model.device),
        use_cache=False,
    )


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
        if not whole_passes():
            return select(model.network.get_decoder()(**inputs).last_hidden_state)
        if not announced:
            processes.any_needs_pass(True)
        with head_at(model, select, float32_head=float32_head):
            return model.network(**inputs).logits[0]


def finish_passes(model: LanguageModel, *, backward: bool = False) -> None:
    """Join the passes of other processes until none of them needs the shards of this one."""
    while processes.any_needs_pass(False):
        token_11 = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        logits_1V = forward(model, lambda hidden: hidden[0, :1], announced=True, input_ids=token_11)
        if backward:
            torch.autograd.backward(0 * logits_1V.sum())
