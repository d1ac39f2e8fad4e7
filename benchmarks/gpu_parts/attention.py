"""Attention kernels over one packed row of token trees, in the head shapes of Qwen3-8B.

A tree is a passage with two questions: a token attends to the tokens up to itself whose subtree it
is in. Suffixes of names: T tokens of the row, H heads, K key-value heads, E head size.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu_parts.items import spread
from benchmarks.gpu_parts.measure import Deadline, kernel_seconds, seconds_of
from benchmarks.gpu_parts.work import Setting, encoded_prompts
from isogloss.models.language_model import LanguageModel
from isogloss.models.prefix_tree import TokenTree
from isogloss.types import Format

HEADS, GROUPS, SIZE = 32, 8, 128
ROW, QUICK_ROW = 32768, 640
BLOCK = 128
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Row:
    """Trees in one row, up to `tokens` of them: where each begins, and where subtrees end."""

    def __init__(self, trees: list[TokenTree], tokens: int, device: torch.device):
        self.trees: list[TokenTree] = []
        ends: list[int] = []
        for tree in trees:
            if len(ends) + len(tree) > tokens:
                break
            self.trees.append(tree)
            ends += [len(ends) + end for end in subtree_ends(tree)]
        self.sizes = [len(tree) for tree in self.trees]
        # A multiple of the block: the tokens of the filler see themselves.
        filler = -len(ends) % BLOCK
        ends += [len(ends) + at + 1 for at in range(filler)]
        self.filler = filler
        self.ends = ends
        self.end_T = torch.tensor(ends, dtype=torch.int32, device=device)
        self.device = device


def subtree_ends(tree: TokenTree) -> list[int]:
    """For each node the node after the last one of its subtree; nodes are in depth-first order."""
    ends = list(range(1, len(tree) + 1))
    for node in range(len(tree) - 1, -1, -1):
        if (parent := tree.parents[node]) >= 0:
            ends[parent] = max(ends[parent], ends[node])
    return ends


def measure(model: LanguageModel, setting: Setting, deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Seconds of each kernel, forward and with the backward pass, and its largest difference.

    What a kernel prepares for a row is timed apart: all layers share it.
    """
    items = spread(list(setting.items), 4 if setting.quick else 200)
    trees: dict[str, TokenTree] = {}
    for item, entry in zip(items, encoded_prompts(model, items, Format.LETTER), strict=True):
        for sequence in entry.sequences:
            trees.setdefault(item.passage_id, TokenTree()).insert(sequence[:-1])
    row = Row(list(trees.values()), QUICK_ROW if setting.quick else ROW, setting.device)
    torch.manual_seed(0)
    tokens = len(row.ends)
    dtype = torch.bfloat16
    shapes = ((HEADS, tokens, SIZE), (GROUPS, tokens, SIZE), (GROUPS, tokens, SIZE))
    inputs = [torch.randn(1, *shape, dtype=dtype, device=row.device) for shape in shapes]
    kernels: dict[str, Any] = {}
    expected: torch.Tensor | None = None
    for name, prepare in PREPARED.items():
        if deadline.left <= 0:
            kernels[name] = {"error": "out of time"}
            continue
        if setting.device.type not in DEVICES[name]:
            continue
        try:
            kernels[name], output = _timed(row, inputs, prepare)
        except Exception as error:  # whatever a kernel raises is a result
            kernels[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            continue
        if expected is None:
            expected = output
        kernels[name]["largest_difference"] = float((output - expected).abs().max())
    pairs = sum(size * (size + 1) // 2 for size in row.sizes)
    yield {"tokens": tokens, "trees": len(row.sizes), "causal_pairs": pairs, "kernels": kernels}


def _timed(
    row: Row, inputs: list[torch.Tensor], prepare: Callable[[Row], Attention]
) -> tuple[dict[str, Any], torch.Tensor]:
    made: list[Attention] = []
    preparing = seconds_of(row.device, lambda: made.append(prepare(row)))
    attend = made[0]
    repeats, warm_up = (5, 2) if row.device.type == "cuda" else (1, 0)
    preparing_again = seconds_of(row.device, lambda: prepare(row))
    with torch.no_grad():
        first = seconds_of(row.device, lambda: attend(*inputs))
        output = attend(*inputs)[:, :, : len(row.ends) - row.filler].float()
        forward = kernel_seconds(
            row.device, lambda: attend(*inputs), repeats=repeats, warm_up=warm_up
        )
    result: dict[str, Any] = {
        "prepare_first_seconds": preparing,
        "prepare_seconds": preparing_again,
        "first_seconds": first,
        "forward_ms": 1e3 * forward,
    }
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]

    def both() -> None:
        for leaf in leaves:
            leaf.grad = None
        output = attend(*leaves)
        torch.autograd.backward(output, torch.ones_like(output))

    try:
        took = kernel_seconds(row.device, both, repeats=repeats, warm_up=warm_up)
        result["forward_backward_ms"] = 1e3 * took
    except Exception as error:
        result["backward_error"] = f"{type(error).__name__}: {str(error)[:300]}"
    return result, output


def _sdpa_per_tree(row: Row) -> Attention:
    """A call per tree, with its mask."""
    masks = [torch.from_numpy(tree.ancestors()).to(row.device) for tree in row.trees]

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        sizes = [*row.sizes, row.filler]
        parts = zip(
            *(torch.split(tensor, sizes, dim=2) for tensor in (query, key, value)), strict=True
        )
        attended = [
            scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
            for (q, k, v), mask in zip(parts, masks, strict=False)
        ]
        return torch.cat([*attended, torch.zeros_like(query[:, :, : row.filler])], dim=2)

    return attend


def _sdpa_padded(row: Row) -> Attention:
    """One call with a row of a batch per tree, padded to the longest, with masks."""
    width = -(-max(row.sizes) // 8) * 8
    mask = np.zeros((len(row.trees), 1, width, width), dtype=np.bool_)
    index = np.zeros((len(row.trees), width), dtype=np.int64)
    start = 0
    for at, tree in enumerate(row.trees):
        size = len(tree)
        mask[at, 0, :size, :size] = tree.ancestors()
        mask[at, 0, size:, 0] = True  # a softmax over nothing has no gradient
        index[at, :size] = np.arange(start, start + size)
        start += size
    mask_B1TT = torch.from_numpy(mask).to(row.device)
    index_BT = torch.from_numpy(index).to(row.device)
    kept = torch.from_numpy(
        np.concatenate([at * width + np.arange(size) for at, size in enumerate(row.sizes)])
    ).to(row.device)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        rows = [
            tensor[0][:, index_BT].transpose(0, 1) for tensor in (query, key, value)
        ]  # [B, H, T, E]
        wide_key, wide_value = (
            tensor.repeat_interleave(HEADS // GROUPS, dim=1) for tensor in rows[1:]
        )
        output = scaled_dot_product_attention(rows[0], wide_key, wide_value, attn_mask=mask_B1TT)
        flat = output.transpose(0, 1).flatten(1, 2)[:, kept][None]
        return torch.cat([flat, torch.zeros_like(query[:, :, : row.filler])], dim=2)

    return attend


def chains(tree: TokenTree) -> list[tuple[int, int, list[int]]]:
    """Runs of consecutive nodes, each the child of the one before: start, end, and all ancestors.

    The keys of a run are its ancestors followed by itself.
    """
    runs: list[tuple[int, int, list[int]]] = []
    start = 0
    for node in range(1, len(tree) + 1):
        if node < len(tree) and tree.parents[node] == node - 1:
            continue
        above: list[int] = []
        parent = tree.parents[start]
        while parent >= 0:
            above.append(parent)
            parent = tree.parents[parent]
        runs.append((start, node, above[::-1]))
        start = node
    return runs


def _varlen(row: Row) -> Attention:
    """One call of `varlen_attn`: the keys of a branch are gathered behind those of its stem."""
    from torch.nn.attention.varlen import varlen_attn

    queries, keys = [0], [0]
    gathered: list[npt.NDArray[np.int64]] = []
    offset = 0
    for tree in row.trees:
        for start, end, above in chains(tree):
            own = np.arange(start, end)
            gathered.append(offset + np.concatenate([np.array(above, dtype=np.int64), own]))
            queries.append(queries[-1] + end - start)
            keys.append(keys[-1] + end - start + len(above))
        offset += len(tree)
    index = torch.from_numpy(np.concatenate(gathered)).to(row.device)
    cu_query = torch.tensor(queries, dtype=torch.int32, device=row.device)
    cu_key = torch.tensor(keys, dtype=torch.int32, device=row.device)
    # torch 2.11 and later versions name what is causal, and fewer key-value heads, differently.
    known = inspect.signature(varlen_attn).parameters
    causal: dict[str, Any] = (
        {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    )
    if "enable_gqa" in known:
        causal["enable_gqa"] = True
    longest_query, longest_key = int(np.diff(queries).max()), int(np.diff(keys).max())

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        query_THE = query[0].transpose(0, 1)[:offset].contiguous()
        key_TKE, value_TKE = (
            tensor[0].transpose(0, 1).index_select(0, index) for tensor in (key, value)
        )
        places = (cu_query, cu_key, longest_query, longest_key)
        output: Any = varlen_attn(query_THE, key_TKE, value_TKE, *places, **causal)
        filler = torch.zeros_like(query[:, :, : row.filler])
        return torch.cat([output.transpose(0, 1)[None], filler], dim=2)

    return attend


def _flex(row: Row) -> Attention:
    """FlexAttention with the mask of subtrees; blocks of keys follow from where subtrees end."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    end_T = row.end_T

    def in_subtree(
        batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        return (key <= query) & (query < end_T[key])

    number, index = key_blocks(row)
    mask = BlockMask.from_kv_blocks(
        torch.from_numpy(number)[None, None].to(row.device),
        torch.from_numpy(index)[None, None].to(row.device),
        BLOCK_SIZE=BLOCK,
        mask_mod=in_subtree,
    )
    call: Any = _compiled(flex_attention) if row.device.type == "cuda" else flex_attention

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return call(query, key, value, block_mask=mask, enable_gqa=True)  # type: ignore[no-any-return]

    return attend


def key_blocks(row: Row) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """For each block of queries, how many blocks of keys it sees, and which, these first.

    A block of keys is seen if it is not later and one of its subtrees reaches the block of queries.
    """
    last = np.array(row.ends).reshape(-1, BLOCK).max(1)
    blocks = np.arange(len(last))
    seen = (blocks[None, :] <= blocks[:, None]) & (last[None, :] > BLOCK * blocks[:, None])
    order = np.argsort(~seen, axis=1, kind="stable")
    return seen.sum(1).astype(np.int32), order.astype(np.int32)


_compilations: dict[object, Any] = {}


def _compiled(function: Callable[..., Any]) -> Any:
    if function not in _compilations:
        _compilations[function] = torch.compile(function, dynamic=False)
    return _compilations[function]


PREPARED: dict[str, Callable[[Row], Attention]] = {
    "sdpa_per_tree": _sdpa_per_tree,
    "sdpa_padded": _sdpa_padded,
    "varlen": _varlen,
    "flex": _flex,
}
DEVICES = {
    "sdpa_per_tree": ("cuda", "cpu"),
    "sdpa_padded": ("cuda", "cpu"),
    "varlen": ("cuda",),  # has no kernel for a CPU
    "flex": ("cuda",),
}
