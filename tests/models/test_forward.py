"""Forward passes: states of tree nodes are those of their sequences alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS

from isogloss.models.forward import hidden_states
from isogloss.models.language_model import Batching
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.paths import can_share
from isogloss.models.prefix_tree import TokenTree


@pytest.mark.parametrize("batching", list(Batching))
@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_states_of_branched_trees_are_those_of_their_sequences(
    batching: Batching, architecture: str, model_folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(model_folder(architecture))), "float32")
    assert can_share(model)
    model.paths = replace(model.paths, batching=batching)
    stem = list(range(100, 160))  # longer than the attention window
    sequences = [[*stem, 7, 8, 9], [*stem, 7, 30], [200, 201], [*stem[:10], 5]]
    trees = [TokenTree(), TokenTree()]
    places = [(0, trees[0].insert(sequence)) for sequence in sequences[:2]]
    places += [(1, trees[1].insert(sequence)) for sequence in sequences[2:]]
    nodes: list[list[int]] = [[], []]
    expected_ND = []
    with torch.inference_mode():
        for (tree, path), sequence in zip(places, sequences, strict=True):
            nodes[tree] += [path[-1], path[0]]
            ids = torch.tensor([sequence])
            states_TD = model.network.get_decoder()(input_ids=ids).last_hidden_state[0]
            expected_ND += [states_TD[-1], states_TD[0]]
        states_ND = hidden_states(model, trees, nodes)
    torch.testing.assert_close(states_ND, torch.stack(expected_ND), rtol=1e-3, atol=1e-3)
