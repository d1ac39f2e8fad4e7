"""Attention of trees by branches: the arguments that the kernel of a GPU gets, with plain products."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.models import packed_attention
from isogloss.models.packed_attention import attend_branches, branches
from isogloss.models.prefix_tree import TokenTree
from isogloss.models.tree_attention import Row, attend

HEADS, GROUPS, WIDTH = 4, 2, 8


def _plain_kernel(
    query_THE: torch.Tensor,
    key_SKE: torch.Tensor,
    value_SKE: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    most: tuple[int, int],
    *,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """What `varlen_attention` documents, one sequence at a time."""
    attended = []
    for at in range(len(query_starts) - 1):
        query = query_THE[query_starts[at] : query_starts[at + 1]]
        keys = slice(int(key_starts[at]), int(key_starts[at + 1]))
        key = key_SKE[keys].repeat_interleave(HEADS // GROUPS, 1)
        value = value_SKE[keys].repeat_interleave(HEADS // GROUPS, 1)
        assert len(query) <= most[0]
        assert len(key) <= most[1]
        # The last query sees all keys.
        distance = (torch.arange(len(query)) + len(key) - len(query))[:, None] - torch.arange(
            len(key)
        )
        mask = (distance >= 0) & (distance < (window or len(key)))
        scores = torch.einsum("qhe,khe->hqk", query, key) * scale
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        attended.append(torch.einsum("hqk,khe->qhe", weights, value))
    return torch.cat(attended)


sequences = st.lists(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(trees=sequences, window=st.sampled_from([None, 1, 3, 100]))
def test_branches_attend_to_the_tokens_that_masks_show(
    trees: list[list[list[int]]], window: int | None
) -> None:
    row: list[TokenTree] = []
    for texts in trees:
        row.append(TokenTree())
        for text in texts:
            row[-1].insert(text)
    length = sum(map(len, row))
    generator = torch.Generator().manual_seed(length)
    query = torch.randn(1, HEADS, length, WIDTH, generator=generator)
    key, value = torch.randn(2, 1, GROUPS, length, WIDTH, generator=generator)
    expected, _ = attend(
        torch.nn.Identity(),
        query,
        key,
        value,
        None,
        row=Row.of(row, torch.device("cpu")),
        sliding_window=window,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_attention, "varlen_attention", _plain_kernel)
        cpu = torch.device("cpu")
        packed = attend_branches(query, key, value, branches(row, cpu), WIDTH**-0.5, window)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)
