"""Attention within segments: a row of tokens in which only tokens of one segment see one another.

Registered with transformers as an attention function, so that its models need no change. Suffixes
of names: H heads, K key-value heads, G heads per key-value head, T tokens of a segment, E head
size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn.functional import dropout as dropout_
from torch.nn.functional import scaled_dot_product_attention

from isogloss.compat.transformers import register_attention
from isogloss.models.dtypes import matrix_units
from isogloss.models.packed_attention import Branches, attend_branches, branches, kernel_takes
from isogloss.models.prefix_tree import TokenTree

NAME = "isogloss_segments"
BLOCK = 128  # queries multiplied at a time on a CPU: their scores stay in the cache


@dataclass(frozen=True)
class Segment:
    """Consecutive tokens of a row: one token tree. Ancestors come first."""

    tree: TokenTree
    masks: dict[int | None, torch.Tensor | None] = field(default_factory=dict)  # by window

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self.tree)

    def mask(self, window: int | None, device: torch.device) -> torch.Tensor | None:
        """[T, T] boolean: which tokens a token attends to; None for all tokens up to itself.

        Computed once for all layers with the same window.
        """
        if window is not None and window >= self.size:
            window = None
        if window not in self.masks:
            mask_TT = self._ancestors() if window is None else self._within(window)
            self.masks[window] = None if mask_TT is None else mask_TT.to(device)
        mask_TT = self.masks[window]
        return None if mask_TT is None else mask_TT.to(device)

    def _ancestors(self) -> torch.Tensor | None:
        """The mask without a window; None for a single sequence."""
        return None if self.tree.is_chain else torch.from_numpy(self.tree.ancestors())

    def _within(self, window: int) -> torch.Tensor:
        depths_T = torch.tensor(self.tree.depths)
        distance_TT = depths_T[:, None] - depths_T[None, :]
        ancestors_TT = self._ancestors()
        mask_TT = distance_TT >= 0 if ancestors_TT is None else ancestors_TT
        return mask_TT & (distance_TT < window)


@dataclass(frozen=True)
class Row:
    """Token trees that follow one another: as segments, and as branches if a GPU's kernel may help.

    One object, because compiled layers would check the entries of a list at every call.
    """

    segments: Sequence[Segment]
    branches: Branches | None = None

    @classmethod
    def of(cls, trees: Sequence[TokenTree], device: torch.device) -> "Row":
        """The row of trees for a model on that device."""
        on_gpu = device.type == "cuda"
        return cls(list(map(Segment, trees)), branches(trees, device) if on_gpu else None)


def attend(
    module: torch.nn.Module,
    query_1HTE: torch.Tensor,
    key_1KTE: torch.Tensor,
    value_1KTE: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row: Row,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of each segment to itself, in the form of transformers' attention functions.

    Returns attended values [1, T, H, E]. On a GPU by one kernel for the branches of the row, where
    it applies. On a CPU by plain products, 128 queries at a time, each with the keys up to its own:
    torch's fused attention is no faster in bfloat16 than in float32 there, and it computes masked
    entries too. With matrix units it is 1.1 to 2.8 times as fast as those products all the same.
    """
    scale = query_1HTE.shape[-1] ** -0.5 if scaling is None else scaling
    plain = softcap is None and not dropout
    if row.branches is not None and plain and kernel_takes(query_1HTE, value_1KTE):
        attended_1THE = attend_branches(
            query_1HTE, key_1KTE, value_1KTE, row.branches, scale, sliding_window
        )
        return attended_1THE, None
    on_cpu = query_1HTE.device.type == "cpu"
    fused_on_cpu = on_cpu and plain and _fused_is_faster()
    if fused_on_cpu:  # cast once instead of in each segment
        query_1HTE, key_1KTE, value_1KTE = (
            whole.to(torch.bfloat16) for whole in (query_1HTE, key_1KTE, value_1KTE)
        )
    attended = []
    sizes = [segment.size for segment in row.segments]
    # Split instead of sliced: the gradient of every slice would have the size of the row.
    parts = (torch.split(whole, sizes, dim=2) for whole in (query_1HTE, key_1KTE, value_1KTE))
    for segment, query, key, value in zip(row.segments, *parts, strict=True):
        mask_TT = segment.mask(sliding_window, query.device)
        if softcap is not None or (on_cpu and not fused_on_cpu):
            attended.append(
                _in_blocks(query[0], key[0], value[0], mask_TT, scale, softcap, dropout)
            )
        else:
            fused = scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask_TT,
                dropout_p=dropout,
                is_causal=mask_TT is None,
                scale=scale,
                enable_gqa=True,
            )
            attended.append(fused[0].transpose(0, 1))
    return torch.cat(attended)[None], None


def _fused_is_faster() -> bool:
    """Whether a CPU computes attention by torch's fused kernel: bfloat16 with matrix units.

    Without gradients only: a training that was begun with plain products ends with them.
    """
    in_bfloat16 = (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    return in_bfloat16 and matrix_units() and not torch.is_grad_enabled()


def _in_blocks(
    query_HTE: torch.Tensor,
    key_KTE: torch.Tensor,
    value_KTE: torch.Tensor,
    mask_TT: torch.Tensor | None,
    scale: float,
    softcap: float | None,
    dropout: float,
) -> torch.Tensor:
    """Attended values [T, H, E]."""
    heads, size, width = query_HTE.shape
    groups = key_KTE.shape[0]
    query_KGTE = query_HTE.view(groups, heads // groups, size, width)
    key_KET = key_KTE.transpose(1, 2)
    blocks = []
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        # The queries of all heads with the same keys are rows of one product.
        query = query_KGTE[:, :, start:end].reshape(groups, -1, width)
        scores = torch.matmul(query, key_KET[:, :, :end]) * scale
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores.view(groups, heads // groups, end - start, end)
        if mask_TT is None:
            mask = torch.ones(end - start, end, dtype=torch.bool, device=scores.device).tril(start)
        else:
            mask = mask_TT[start:end, :end]
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1).to(value_KTE.dtype)
        if dropout:
            weights = dropout_(weights, dropout)
        weights = weights.view(groups, -1, end)
        values = torch.matmul(weights, value_KTE[:, :end])
        blocks.append(values.view(heads, end - start, -1).transpose(0, 1))
    return torch.cat(blocks)


register_attention(NAME, torch.compiler.disable(attend))  # type: ignore[no-untyped-call]
