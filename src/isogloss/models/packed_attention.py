"""Attention of a row of token trees by one call of FlashAttention per layer, on a GPU.

A tree is cut into branches: runs of nodes in which each node follows its parent. A branch is a
sequence of variable length: its queries are its own nodes, its keys are the path from the root to
its end. The keys of a stem are copied once per branch, which costs less than one more residual
connection; nothing is masked, and nothing is computed for pairs of tokens that do not see one
another. The kernel aligns the last query with the last key, so it is causal within a branch.

Suffixes of names: H heads, K key-value heads, T tokens of the row, E head size, S keys of all
branches, N branches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from isogloss.compat.torch import on_device, varlen_attention
from isogloss.models.prefix_tree import TokenTree
from isogloss.types import IntArray

DTYPES = (torch.bfloat16, torch.float16)
LARGEST_HEAD = 256


@dataclass(frozen=True)
class Branches:
    """The branches of a row of trees, for a kernel of variable-length attention.

    `query_starts` and `key_starts` [N + 1] are cumulative lengths (int32). `keys` [S] are places in
    the row, or None if they are the row itself: then no tree has branches. The longest branch has
    `most_queries` nodes, the longest path `most_keys`.
    """

    query_starts: torch.Tensor
    key_starts: torch.Tensor
    keys: torch.Tensor | None
    most_queries: int
    most_keys: int


def branches(trees: Sequence[TokenTree], device: torch.device) -> Branches:
    """The branches of trees that follow one another in a row."""
    lengths: list[int] = []
    paths: list[IntArray] = []
    offset = 0
    for tree in trees:
        for start, path in tree.branches():
            lengths.append(len(path) - start)
            paths.append(path + offset)
        offset += len(tree)
    path_lengths = list(map(len, paths))
    gathered = len(paths) > len(trees)
    return Branches(
        query_starts=on_device(np.cumsum([0, *lengths]), device, torch.int32),
        key_starts=on_device(np.cumsum([0, *path_lengths]), device, torch.int32),
        keys=on_device(np.concatenate(paths), device) if gathered else None,
        most_queries=max(lengths),
        most_keys=max(path_lengths),
    )


def kernel_takes(query_1HTE: torch.Tensor, value_1KTE: torch.Tensor) -> bool:
    """Whether the kernel can compute attention with these queries and values."""
    size = query_1HTE.shape[-1]
    fits = size == value_1KTE.shape[-1] and size <= LARGEST_HEAD and size % 8 == 0
    return fits and query_1HTE.is_cuda and query_1HTE.dtype in DTYPES


def attend_branches(
    query_1HTE: torch.Tensor,
    key_1KTE: torch.Tensor,
    value_1KTE: torch.Tensor,
    row: Branches,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Attended values [1, T, H, E]; each node attends to its path, up to `window` nodes of it."""
    query_THE = query_1HTE[0].transpose(0, 1)
    key_SKE, value_SKE = key_1KTE[0].transpose(0, 1), value_1KTE[0].transpose(0, 1)
    device = query_THE.device
    if row.keys is not None:
        keys_S = row.keys.to(device)
        key_SKE, value_SKE = key_SKE.index_select(0, keys_S), value_SKE.index_select(0, keys_S)
    attended_THE = varlen_attention(
        query_THE,
        key_SKE,
        value_SKE,
        row.query_starts.to(device),
        row.key_starts.to(device),
        (row.most_queries, row.most_keys),
        scale=scale,
        window=window,
    )
    return attended_THE[None]
