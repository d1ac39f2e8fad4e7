"""Layers in bfloat16 on a CPU: nearer to float64 than the modules' own, and only where they apply."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.activations import GELUTanh

from isogloss.models.cpu_layers import lighter_forwards, lighter_layers
from isogloss.models.forward import hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.prefix_tree import TokenTree

ModelFolder = Callable[[str], Path]


def loaded(folder: ModelFolder, architecture: str, dtype: str = "bfloat16") -> LanguageModel:
    """A tiny model whose norms have weights that are neither zero nor one."""
    model = load(locate(str(folder(architecture))), dtype)
    generator = torch.Generator().manual_seed(0)
    for module in model.network.modules():
        if type(module).__name__.endswith("RMSNorm"):
            noise = 0.3 + 0.2 * torch.randn(module.weight.shape, generator=generator)
            module.weight.data = noise.to(module.weight.dtype)
    return model


def norms_of_layers(model: LanguageModel) -> list[torch.nn.Module]:
    return [
        module
        for layer in model.network.get_decoder().layers
        for module in layer.modules()
        if type(module).__name__.endswith("RMSNorm")
    ]


@pytest.mark.parametrize("architecture", ["gemma3", "llama", "qwen3"])
def test_norms_are_at_least_as_exact_as_the_models_own(
    architecture: str, model_folder: ModelFolder
) -> None:
    model = loaded(model_folder, architecture)
    forwards = lighter_forwards(model)
    norms = norms_of_layers(model)
    assert len(norms) >= 6
    for module in norms:
        states = torch.randn(3, 2, *module.weight.shape, generator=torch.Generator().manual_seed(1))
        for given in (states, states.bfloat16()):
            exact = copy.deepcopy(module).double()(given.double())
            light = forwards[module](given)
            own = module(given).bfloat16()  # as the products that take it would cast it
            assert light.dtype == (torch.bfloat16 if given is states else torch.float32)
            assert (light - exact).norm() <= 1.001 * (own - exact).norm()


def test_only_gelu_with_tanh_is_computed_through_the_sigmoid(model_folder: ModelFolder) -> None:
    gemma, llama = loaded(model_folder, "gemma3"), loaded(model_folder, "llama")
    forwards = lighter_forwards(gemma)
    activations = [module for module in forwards if isinstance(module, GELUTanh)]
    assert len(activations) == len(gemma.network.get_decoder().layers)
    states = torch.linspace(-9, 9, 2 * 300 * 777).view(2, 300, 777).bfloat16()
    exact = torch.nn.functional.gelu(states.double(), approximate="tanh")
    light = forwards[activations[0]](states)
    assert light.shape == states.shape
    own = activations[0](states)
    assert (light - exact).norm() <= 1.001 * (own - exact).norm()
    assert set(lighter_forwards(llama)) == set(norms_of_layers(llama))  # SiLU is as it was


@pytest.mark.parametrize("architecture", ["gemma3", "llama", "qwen3_moe"])
def test_states_of_trees_are_those_of_the_layers_up_to_rounding(
    architecture: str, model_folder: ModelFolder
) -> None:
    tree = TokenTree()
    nodes = tree.insert(list(range(5, 60))) + tree.insert([*range(5, 30), *range(200, 220)])[25:]
    states = {}
    with torch.inference_mode():
        for dtype in ("bfloat16", "float32"):
            model = loaded(model_folder, architecture, dtype)
            states[dtype] = hidden_states(model, [tree], [nodes])
            if dtype == "bfloat16":
                assert model.lighter
                model.lighter = {}
                states["own layers"] = hidden_states(model, [tree], [nodes])
            else:
                assert model.lighter is None
    exact = states["float32"]
    errors = {name: float((states[name] - exact).norm() / exact.norm()) for name in states}
    if architecture == "gemma3":  # the others round the same numbers, once instead of three times
        assert not torch.equal(states["bfloat16"], states["own layers"])
    assert errors["bfloat16"] < 1.25 * errors["own layers"] < 0.1


def test_gradients_pass_through_the_layers_of_the_model(model_folder: ModelFolder) -> None:
    model = loaded(model_folder, "gemma3")
    norm = norms_of_layers(model)[0]
    with torch.inference_mode(), lighter_layers(model):
        assert "forward" in vars(norm)
    assert "forward" not in vars(norm)
    with torch.enable_grad(), lighter_layers(model):
        assert "forward" not in vars(norm)


def test_a_norm_that_does_something_else_is_left_alone(model_folder: ModelFolder) -> None:
    model = loaded(model_folder, "llama")
    odd = norms_of_layers(model)[0]
    odd.forward = lambda states: states * odd.weight
    assert odd not in lighter_forwards(model)
