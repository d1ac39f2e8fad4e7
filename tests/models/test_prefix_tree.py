"""Token trees: shared prefixes, ancestors, and the paths that contain selected nodes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.models.prefix_tree import ROOT, TokenTree

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5)


@given(SEQUENCES)
def test_a_tree_holds_every_sequence_and_every_prefix_once(sequences: list[list[int]]) -> None:
    tree = TokenTree()
    paths = [tree.insert(sequence) for sequence in sequences]
    for path, sequence in zip(paths, sequences, strict=True):
        assert [tree.tokens[node] for node in path] == sequence
        assert [tree.depths[node] for node in path] == list(range(len(sequence)))
        assert [tree.parents[node] for node in path] == [ROOT, *path[:-1]]
    prefixes = {
        tuple(sequence[: end + 1]) for sequence in sequences for end in range(len(sequence))
    }
    assert len(tree) == len(prefixes)
    assert tree.is_chain == (len(tree) == max(map(len, sequences)))
    ancestors = np.zeros((len(tree), len(tree)), dtype=bool)
    for path in paths:
        for at, node in enumerate(path):
            ancestors[node, path[: at + 1]] = True
    assert (tree.ancestors() == ancestors).all()


@given(SEQUENCES, st.data())
def test_paths_contain_the_selected_nodes_and_end_in_them(
    sequences: list[list[int]], data: st.DataObject
) -> None:
    tree = TokenTree()
    for sequence in sequences:
        tree.insert(sequence)
    nodes = data.draw(st.lists(st.integers(0, len(tree) - 1), min_size=1))
    paths = tree.paths_to(nodes)
    assert set(nodes) <= {node for path in paths for node in path}
    for path in paths:
        assert [tree.parents[node] for node in path] == [ROOT, *path[:-1]]
        assert path[-1] in nodes
    ends = [path[-1] for path in paths]
    assert not any(end in path[:-1] for end in ends for path in paths), "a path within another"
    assert len(set(ends)) == len(ends)


def test_a_path_ends_at_the_deepest_selected_node() -> None:
    tree = TokenTree()
    path = tree.insert([5, 6, 7, 8])
    assert tree.paths_to([path[2], path[0]]) == [path[:3]]
    assert tree.paths_to([]) == []


@pytest.mark.parametrize("sequence", [[1], [1, 1, 1]])
def test_a_repeated_token_is_a_node_each_time(sequence: list[int]) -> None:
    tree = TokenTree()
    assert tree.insert(sequence) == list(range(len(sequence))) == tree.insert(sequence)
