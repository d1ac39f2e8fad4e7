"""Packing: token sequences that begin alike share the tokens they begin with; nothing is padded.

The questions of one passage share the passage, the options of one question share the prompt. Such
sequences make a prefix tree, laid out as one stretch of tokens in which a token attends to its
ancestors alone and counts its position from the root. A causal model gives each token the same
output as if its own sequence had been run alone (tree attention, as in SpecInfer, Miao et al.,
arXiv:2305.09781, section 4.2). The trees of a batch follow one another in a single row.

Suffixes of names: B rows of a batch, T tokens of a row or tree, N positions that are wanted,
D hidden size, V vocabulary.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from isogloss.distributed import processes
from isogloss.models.lm_head import decoder, float32_product, replaced
from isogloss.models.loading import LanguageModel
from isogloss.models.tree_attention import NAME, Stretch

logger = logging.getLogger(__name__)

ROOT = -1
# Modules of a layer that treat each token by itself and whose output only that token's is made of.
BY_TOKEN = ("q_proj", "o_proj", "mlp")


@dataclass
class TokenTree:
    """A prefix tree of token sequences; node i is token `tokens[i]` at depth `depths[i]`."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    def insert(self, sequence: Sequence[int]) -> list[int]:
        """Add a sequence and return its nodes; those of a prefix already there are used again."""
        node = ROOT
        path: list[int] = []
        for token in sequence:
            parent, node = node, self.children.get((node, token), ROOT)
            if node == ROOT:
                node = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(parent)
                self.depths.append(len(path))
                self.children[parent, token] = node
            path.append(node)
        return path

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether this is one sequence, without branches."""
        return self.depths == list(range(len(self)))

    def ancestors(self) -> np.ndarray:
        """[T, T] boolean: whether the column's node is the row's node or one of its ancestors."""
        seen_TT = np.eye(len(self), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent != ROOT:
                seen_TT[node] |= seen_TT[parent]
        return seen_TT


def can_share(model: LanguageModel) -> bool:
    """Whether the model gives trees the outputs that it gives their sequences one by one.

    Tried once a model, on a small tree: attention of other kinds, or with terms of its own, is seen
    by what comes out. Window sizes are larger than that tree, so layers are asked for their kind.
    """
    if model.shares is None:
        kinds = set(getattr(decoder(model).config, "layer_types", None) or ())
        model.shares = (
            kinds <= {"full_attention", "sliding_attention"}
            and model.network._can_set_attn_implementation()
            and model.network.config._attn_implementation != "flash_attention_2"
            and _shares(model)
        )
        if not model.shares:
            logger.info(
                f"{model.location.name}: its attention needs every sequence by itself (slower)"
            )
    return model.shares


@processes.no_gradients
def _shares(model: LanguageModel) -> bool:
    tree = TokenTree()
    last = min(len(model.tokenizer), model.network.config.get_text_config().vocab_size) - 1
    stem = [last - at % last for at in range(24)]
    sequences = [[*stem, *(at % last for at in branch)] for branch in (range(8), range(8, 20))]
    paths = [tree.insert(sequence) for sequence in sequences]
    chains = [TokenTree() for _ in sequences]
    alone = [chain.insert(sequence) for chain, sequence in zip(chains, sequences, strict=True)]
    alone_ND = _padded_states(model, chains, alone).float()
    ends = [path[-4:] for path in paths]  # few enough for `_last_layer`
    try:
        together_ND = _flat_states(model, [tree], [paths[0] + paths[1]]).float()
        ends_ND = _flat_states(model, [tree], [ends[0] + ends[1]]).float()
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError):
        return False
    first, second = torch.split(alone_ND, [len(path) for path in paths])
    expected_ND = torch.cat([alone_ND, first[-4:], second[-4:]])
    errors_N = (torch.cat([together_ND, ends_ND]) - expected_ND).norm(dim=-1)
    errors_N /= expected_ND.norm(dim=-1)
    parts = torch.split(errors_N, [len(stem), 8, len(stem), 12, 8])
    # Medians, since rounding in bfloat16 sends single tokens to other experts of a mixture.
    limit = 1e-3 if model.dtype == torch.float32 else 0.05
    return all(bool(part.median() < limit) for part in parts)


def states(
    model: LanguageModel,
    trees: Sequence[TokenTree],
    wanted: Sequence[Sequence[int]],
    cache: DynamicCache | None = None,
    *,
    float32_head: bool = False,
    within: ExitStack | None = None,
) -> torch.Tensor:
    """The model's last hidden states [N, D] at given nodes of a batch of trees, for `head.logits`.

    `wanted[b]` are nodes of `trees[b]`; the result is row by row in that order. `cache` is given
    the keys and values of all nodes, tree after tree, in a single row. Where `can_share` does not
    hold, all of `trees` have to be chains, and there is no such row. What the model does otherwise
    in such a pass it goes on doing `within` a context, for a backward pass that computes layers
    anew.
    """
    if can_share(model):
        return _flat_states(model, trees, wanted, cache, float32_head, within)
    return _padded_states(model, trees, wanted, float32_head)


def _flat_states(
    model: LanguageModel,
    trees: Sequence[TokenTree],
    wanted: Sequence[Sequence[int]],
    cache: DynamicCache | None = None,
    float32_head: bool = False,
    within: ExitStack | None = None,
) -> torch.Tensor:
    device = model.device
    tokens_T = [token for tree in trees for token in tree.tokens]
    positions_T = [depth for tree in trees for depth in tree.depths]
    stretches: list[Stretch] = []
    nodes: list[int] = []
    start = 0
    for tree, some in zip(trees, wanted, strict=True):
        seen_TT = None if tree.is_chain else torch.from_numpy(tree.ancestors()).to(device)
        depths_T = torch.tensor(tree.depths, device=device)
        stretches.append(Stretch(len(tree), depths_T, seen_TT))
        nodes.extend(start + node for node in some)
        start += len(tree)
    with ExitStack() as alone:
        stack = within or alone
        stack.enter_context(_tree_attention(model))
        stack.enter_context(_last_layer(model, nodes, len(tokens_T)))
        return run(
            model,
            lambda hidden_1TD: hidden_1TD[0, torch.tensor(nodes, device=hidden_1TD.device)],
            float32_head=float32_head,
            input_ids=torch.tensor([tokens_T], device=device),
            position_ids=torch.tensor([positions_T], device=device),
            past_key_values=cache,
            use_cache=cache is not None,
            stretches=stretches,
        )


@contextmanager
def _tree_attention(model: LanguageModel) -> Iterator[None]:
    """Context in which the model attends within trees."""
    config = decoder(model).config
    kept = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = kept


@contextmanager
def _last_layer(model: LanguageModel, nodes: Sequence[int], tokens: int) -> Iterator[None]:
    """Context in which the last layer gives what comes of `nodes` and nothing else.

    The other tokens are needed there for their keys and values alone.
    """
    layers = getattr(decoder(model), "layers", None)
    with ExitStack() as stack:
        if layers is not None and 2 * len(nodes) < tokens:
            for name, module in layers[-1].named_modules():
                if name.rpartition(".")[-1] in BY_TOKEN:
                    stack.enter_context(replaced(module, partial(_at, module.forward, nodes)))
        yield


def _at(forward: Callable[..., Any], nodes: Sequence[int], hidden_1TD: torch.Tensor) -> Any:
    """What a module gives for some of the tokens; zeros for the others."""
    nodes_N = torch.tensor(nodes, device=hidden_1TD.device)
    found_1ND: torch.Tensor = forward(hidden_1TD.index_select(1, nodes_N))
    whole_1TD = found_1ND.new_zeros(1, hidden_1TD.shape[1], found_1ND.shape[-1])
    return whole_1TD.index_copy_(1, nodes_N, found_1ND)


def _padded_states(
    model: LanguageModel,
    trees: Sequence[TokenTree],
    wanted: Sequence[Sequence[int]],
    float32_head: bool = False,
) -> torch.Tensor:
    """The same for chains, with the model's own attention: a row each, padded on the right."""
    lengths = torch.tensor([len(tree) for tree in trees])
    tokens_BT = torch.zeros(len(trees), int(lengths.max()), dtype=torch.long)
    for row, tree in enumerate(trees):
        tokens_BT[row, : len(tree)] = torch.tensor(tree.tokens)
    positions_BT = torch.arange(tokens_BT.shape[1]).expand_as(tokens_BT)
    rows = [row for row, nodes in enumerate(wanted) for _ in nodes]
    nodes = [node for nodes in wanted for node in nodes]
    return run(
        model,
        lambda hidden_BTD: hidden_BTD[rows, nodes],
        float32_head=float32_head,
        input_ids=tokens_BT.to(model.device),
        position_ids=positions_BT.to(model.device),
        attention_mask=(positions_BT < lengths[:, None]).to(model.device),
        use_cache=False,
    )


def run(
    model: LanguageModel,
    pick: Callable[[torch.Tensor], torch.Tensor],
    *,
    float32_head: bool = False,
    told: bool = False,
    **inputs: Any,
) -> torch.Tensor:
    """The last hidden states [N, D] that `pick` takes of a pass, for `head.logits`.

    Weights that are spread over processes are together only in a pass through the whole model: it
    gives logits [N, V] then, which `head.logits` leaves as they are. The other processes are told
    of the pass, unless they know (`told`).
    """
    with model.autocast():
        if not processes.sharded():
            return pick(decoder(model)(**inputs).last_hidden_state)
        if not told:
            processes.another_pass(True)
        head = model.network.get_output_embeddings()
        fine = float32_head and model.dtype != torch.float32
        product = partial(float32_product, head) if fine else head.forward
        with replaced(head, lambda hidden_BTD: product(pick(hidden_BTD))[None]):
            logits_1NV: torch.Tensor = model.network(**inputs).logits
        return logits_1NV[0]


def finish(model: LanguageModel, *, backward: bool = False) -> None:
    """Make passes without need of one's own, as long as other processes need this one's weights."""
    while processes.another_pass(False):
        token_11 = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        found = run(model, lambda hidden: hidden[0, :1], told=True, input_ids=token_11)
        if backward:
            torch.autograd.backward(0 * found.sum())
