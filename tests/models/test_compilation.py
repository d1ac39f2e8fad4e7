"""Compiled layers: the states are those of the layers as they are, and new lengths compile nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.cache_utils import DynamicCache

from isogloss.models import compilation
from isogloss.models.compilation import compile_layers, worth_compiling
from isogloss.models.forward import hidden_states
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.prefix_tree import TokenTree


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    """Graphs of an earlier test would serve this one."""
    torch.compiler.reset()  # type: ignore[no-untyped-call]


class CountingBackend:
    """Runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., object]:
        self.graphs += 1
        return graph.forward


def row(lengths: list[int]) -> tuple[list[TokenTree], list[list[int]]]:
    trees = [TokenTree() for _ in lengths]
    nodes = [
        tree.insert([at, *range(5, 5 + length)])[-1:] + tree.insert([at, 5, 6, 300, 301])[-1:]
        for at, (tree, length) in enumerate(zip(trees, lengths, strict=True))
    ]
    return trees, nodes


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3"])
def test_compiled_layers_give_the_same_states_at_any_length(
    architecture: str, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(locate(str(model_folder(architecture))), "float32")
    backend = CountingBackend()
    monkeypatch.setattr(compilation, "BACKEND", backend)
    rows = [row([40, 30]), row([12, 70, 9]), row([25])]
    with torch.inference_mode():
        expected = [hidden_states(model, *entry) for entry in rows]
        compile_layers(model)
        counts = []
        for entry, states_ND in zip(rows, expected, strict=True):
            torch.testing.assert_close(hidden_states(model, *entry), states_ND)
            counts.append(backend.graphs)
    assert counts[0] > 0
    assert counts[1:] == [counts[0]] * 2
    for layer in model.network.get_decoder().layers:
        assert vars(layer).get("_compiled_call_impl") is None  # other passes are not compiled


def test_gradients_pass_through_compiled_layers(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(locate(str(model_folder("qwen3"))), "float32")
    weight = model.network.get_decoder().layers[0].mlp.up_proj.weight.requires_grad_(True)
    entry = row([20, 15])

    def gradient() -> torch.Tensor:
        (found,) = torch.autograd.grad(hidden_states(model, *entry).square().sum(), [weight])
        return found

    expected = gradient()
    monkeypatch.setattr(compilation, "BACKEND", CountingBackend())
    compile_layers(model)
    torch.testing.assert_close(gradient(), expected)


def test_passes_that_fill_a_cache_are_not_compiled(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(locate(str(model_folder("qwen3"))), "float32")
    backend = CountingBackend()
    monkeypatch.setattr(compilation, "BACKEND", backend)
    compile_layers(model)
    with torch.inference_mode():
        hidden_states(model, *row([20]), DynamicCache())
        assert backend.graphs == 0
        hidden_states(model, *row([20]))
    assert backend.graphs > 0


def test_a_small_model_or_a_processor_is_not_worth_compiling(
    model_folder: Callable[[str], Path],
) -> None:
    assert not worth_compiling(load(locate(str(model_folder("qwen3"))), "float32"))
