"""Layers in bfloat16 on a CPU: nearer to float64 than the modules' own, and only where they apply."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.activations import GELUTanh

from isogloss.compat.transformers import ROTARY, rotary_functions
from isogloss.models import tree_attention
from isogloss.models.cpu_layers import lighter_forwards, lighter_layers, lighter_rotations
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


def test_a_gated_mlp_rounds_the_product_of_gate_and_states_once(model_folder: ModelFolder) -> None:
    model = loaded(model_folder, "gemma3")
    forwards = lighter_forwards(model)
    mlps = [layer.mlp for layer in model.network.get_decoder().layers]
    assert set(mlps) <= set(forwards)
    errors = {"own": 0.0, "lighter": 0.0}
    for mlp in mlps:
        size = mlp.gate_proj.in_features
        states = 3 * torch.randn(2, 50, size, generator=torch.Generator().manual_seed(2)).bfloat16()
        exact = copy.deepcopy(mlp).double()(states.double())
        with torch.autocast("cpu", torch.bfloat16):
            found = {"own": mlp(states), "lighter": forwards[mlp](states)}
        for name, output in found.items():
            assert output.dtype == torch.bfloat16
            errors[name] += float((output - exact).norm() / exact.norm())
    assert errors["lighter"] < errors["own"]


def test_an_mlp_that_does_something_else_is_left_alone(model_folder: ModelFolder) -> None:
    model = loaded(model_folder, "gemma3")
    mlp = type(model.network.get_decoder().layers[0].mlp)
    forward = mlp.forward
    try:
        mlp.forward = lambda self, states: 2 * forward(self, states)
        assert not any(isinstance(module, mlp) for module in lighter_forwards(model))
    finally:
        mlp.forward = forward


def test_the_last_layer_computes_selected_places_only(model_folder: ModelFolder) -> None:
    model = loaded(model_folder, "gemma3")
    tree = TokenTree()
    nodes = tree.insert(list(range(5, 60)))[-2:]
    rows = []
    for layer in model.network.get_decoder().layers:
        layer.mlp.down_proj.register_forward_hook(
            lambda _, inputs, __: rows.append(inputs[0].shape[:-1].numel())
        )
    with torch.inference_mode():
        hidden_states(model, [tree], [nodes])
        rows.clear()
        hidden_states(model, [tree], [nodes])
    assert rows == [55] * (len(rows) - 1) + [2]


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
                model.lighter, model.lighter_rotations = {}, {}
                states["own layers"] = hidden_states(model, [tree], [nodes])
            else:
                assert model.lighter is None
    exact = states["float32"]
    errors = {name: float((states[name] - exact).norm() / exact.norm()) for name in states}
    if architecture == "gemma3":  # the others round the same numbers, once instead of three times
        assert not torch.equal(states["bfloat16"], states["own layers"])
    # A token that is nearly between two experts may take the other one.
    factor = 2 if architecture == "qwen3_moe" else 1.25
    assert errors["bfloat16"] < factor * errors["own layers"] < 0.1


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


@pytest.mark.parametrize("architecture", ["gemma3", "llama", "qwen3", "mistral", "qwen3_moe"])
def test_queries_and_keys_are_rotated_in_float32_and_rounded_once(
    architecture: str, model_folder: ModelFolder
) -> None:
    model = loaded(model_folder, architecture)
    ((module, rotate),) = lighter_rotations(model).items()
    own = rotary_functions(model.network)[module]
    generator = torch.Generator().manual_seed(1)
    query, key = (torch.randn(1, heads, 9, 16, generator=generator) for heads in (4, 2))
    angles = torch.randn(1, 9, 8, generator=generator).repeat(1, 1, 2)
    for dtype in (torch.float32, torch.bfloat16):
        given = query.to(dtype), key.to(dtype), angles.cos(), angles.sin()
        exact = own(*(states.double() for states in given))
        for rotated, wanted, unchanged in zip(rotate(*given), exact, own(*given), strict=True):
            assert rotated.dtype == torch.bfloat16
            assert (rotated - wanted).norm() <= 1.001 * (unchanged.bfloat16() - wanted).norm()


def test_a_rotation_of_a_part_or_of_another_form_is_the_models_own(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(model_folder, "llama")
    ((module, rotate),) = lighter_rotations(model).items()
    query, angles = torch.randn(1, 4, 9, 16), torch.randn(1, 9, 4).repeat(1, 1, 2)
    with pytest.raises(RuntimeError):  # as the model's own, which rotates all of a head
        rotate(query, query, angles.cos(), angles.sin())
    monkeypatch.setattr(module, ROTARY, lambda query, key, cos, sin: (query * cos, key * sin))
    assert lighter_rotations(model) == {}


def test_rotations_are_replaced_within_a_pass_that_keeps_no_keys(model_folder: ModelFolder) -> None:
    model = loaded(model_folder, "gemma3")
    ((module, own),) = rotary_functions(model.network).items()
    with torch.inference_mode():
        with lighter_layers(model):
            assert getattr(module, ROTARY) is not own
        with lighter_layers(model, caches=True):
            assert getattr(module, ROTARY) is own
    assert getattr(module, ROTARY) is own


@pytest.mark.parametrize("architecture", ["gemma3", "llama", "mistral"])
def test_with_matrix_units_attention_is_fused_and_as_exact(
    architecture: str, model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = [TokenTree(), TokenTree()]
    nodes = [
        trees[0].insert([*range(5, 90)]) + trees[0].insert([*range(5, 40), *range(200, 220)])[35:],
        trees[1].insert([*range(7, 60)]),
    ]
    errors, calls = {}, []

    def fused(*arguments: object, **options: object) -> torch.Tensor:
        calls.append(arguments)
        return torch.nn.functional.scaled_dot_product_attention(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tree_attention, "scaled_dot_product_attention", fused)
    exact = None
    for dtype, units in (("float32", True), ("bfloat16", False), ("bfloat16", True)):
        monkeypatch.setattr(tree_attention, "matrix_units", lambda units=units: units)
        model = loaded(model_folder, architecture, dtype)
        before = len(calls)
        with torch.inference_mode():
            states = hidden_states(model, trees, nodes).float()
        exact = states if exact is None else exact
        errors[dtype, units] = float((states - exact).norm() / exact.norm())
        assert (len(calls) > before) == (units and dtype == "bfloat16")
    assert errors["bfloat16", True] < 1.1 * errors["bfloat16", False] < 0.1


def test_training_keeps_plain_products(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_attention, "matrix_units", lambda: True)
    monkeypatch.setattr(tree_attention, "scaled_dot_product_attention", None)
    model = loaded(model_folder, "gemma3")
    tree = TokenTree()
    nodes = tree.insert(list(range(5, 60)))
    with torch.enable_grad():
        assert hidden_states(model, [tree], [nodes]).isfinite().all()


def test_soft_capped_scores_keep_plain_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_attention, "matrix_units", lambda: True)
    tree = TokenTree()
    tree.insert(list(range(5, 60)))
    row = tree_attention.Row.of([tree], torch.device("cpu"))
    query, key = (torch.randn(1, heads, 55, 8) for heads in (4, 2))
    outputs = {}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for softcap in (None, 1e9, 0.1):
            outputs[softcap], _ = tree_attention.attend(
                torch.nn.Module(), query, key, key, None, row=row, softcap=softcap
            )
    assert torch.allclose(outputs[None].float(), outputs[1e9].float(), atol=0.02)
    assert not torch.allclose(outputs[None].float(), outputs[0.1].float(), atol=0.2)
