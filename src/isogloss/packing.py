"""Packing: token sequences that begin alike share the tokens they begin with.

The questions of one passage share the passage, the options of one question share the prompt. Each
row of a batch is a prefix tree of such sequences, laid out as one sequence of tokens in which a
token attends to its ancestors alone and counts its position from the root. A causal model gives
each token the same output as if its own sequence had been run alone (tree attention, as in
SpecInfer, Miao et al., arXiv:2305.09781, section 4.2).

Suffixes of names: B rows of a batch, T tokens of a row, N positions whose logits are wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from isogloss.models import LanguageModel
from isogloss.sharding import whole

ROOT = -1


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


def attention_kinds(config: Any) -> set[str] | None:
    """The kinds of attention layer of a model; None where all take one and the same mask."""
    layers = getattr(config, "layer_types", None)
    return set(layers) if layers else None


def can_share(config: Any) -> bool:
    """Whether the model takes a tree mask: plain and sliding-window attention do."""
    return (attention_kinds(config) or set()) <= {"full_attention", "sliding_attention"}


def forward(
    model: LanguageModel,
    trees: Sequence[TokenTree],
    wanted: Sequence[Sequence[int]],
    *,
    float32_head: bool = False,
) -> Any:
    """Logits after given nodes of a batch of trees.

    `wanted[b]` are nodes of `trees[b]`; the result is [N, vocabulary], row by row in that order.
    The model's head is applied at those positions alone: with 262,144 tokens in a vocabulary, full
    logits would cost more time than the rest of the model and gigabytes of memory. `float32_head`
    has it multiply in float32 where the model itself does not: bfloat16 has eight bits, and of
    letters scored with it one item in eight was a tie.
    """
    device = model.device
    lengths = [len(tree) for tree in trees]
    tokens_BT = torch.zeros(len(trees), max(lengths), dtype=torch.long)
    positions_BT = torch.zeros_like(tokens_BT)
    for row, (tree, length) in enumerate(zip(trees, lengths, strict=True)):
        tokens_BT[row, :length] = torch.tensor(tree.tokens)
        positions_BT[row, :length] = torch.tensor(tree.depths)
    if all(tree.is_chain for tree in trees):
        mask: Any = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).to(device)
    else:
        mask = _tree_masks(model, trees, positions_BT)
    rows_N = torch.tensor([row for row, nodes in enumerate(wanted) for _ in nodes], device=device)
    nodes_N = torch.tensor([node for nodes in wanted for node in nodes], device=device)

    def gather(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (arguments[0][rows_N, nodes_N],)

    def in_float32(head: Any, arguments: tuple[torch.Tensor, ...], _: Any) -> torch.Tensor:
        with torch.autocast(model.device.type, enabled=False), whole(head):
            bias = None if head.bias is None else head.bias.float()
            return torch.nn.functional.linear(arguments[0].float(), head.weight.float(), bias)

    head = model.network.get_output_embeddings()
    hooks = [head.register_forward_pre_hook(gather)]
    # An adapter on the head itself is another module, with a product of its own.
    if float32_head and model.dtype != torch.float32 and type(head) is torch.nn.Linear:
        hooks.append(head.register_forward_hook(in_float32))
    try:
        with model.autocast():
            return model.network(
                input_ids=tokens_BT.to(device),
                position_ids=positions_BT.to(device),
                attention_mask=mask,
                use_cache=False,
            ).logits
    finally:
        for hook in hooks:
            hook.remove()


def idle_forward(model: LanguageModel) -> Any:
    """A pass for the sake of other processes: see `processes.idle`."""
    tree = TokenTree()
    return forward(model, [tree], [tree.insert([0])])


def _tree_masks(
    model: LanguageModel, trees: Sequence[TokenTree], positions_BT: torch.Tensor
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Additive masks [B, 1, T, T], by kind of attention layer where the model tells them apart."""
    config = model.network.config
    rows, width = positions_BT.shape
    # Padding attends to itself, so that no row of the mask is empty (softmax over nothing is NaN).
    seen_BTT = torch.eye(width, dtype=torch.bool).repeat(rows, 1, 1)
    for row, tree in enumerate(trees):
        seen_BTT[row, : len(tree), : len(tree)] = torch.from_numpy(tree.ancestors())

    def additive(allowed_BTT: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(allowed_BTT.shape, dtype=model.network.dtype)
        mask.masked_fill_(~allowed_BTT, torch.finfo(model.network.dtype).min)
        return mask[:, None].to(model.device)

    window = getattr(config, "sliding_window", None)
    full = additive(seen_BTT)
    near = full
    if window is not None and int(positions_BT.max()) >= window:
        distance_BTT = positions_BT[:, :, None] - positions_BT[:, None, :]
        near = additive(seen_BTT & (distance_BTT < window))
    kinds = attention_kinds(config)
    if kinds is None:
        return full if window is None else near
    return {kind: full if kind == "full_attention" else near for kind in kinds}
