"""Shapes read from config.json: parameters of published models, and attention of each layer."""

from pathlib import Path

import pytest
import torch
from conftest import CONFIGS
from transformers import AutoModelForCausalLM

from isogloss.costs.memory import Precision, cache_bytes
from isogloss.costs.shape import MatrixKind
from isogloss.models import kept_facts, shapes
from isogloss.models.shapes import published_shape, read_shape, shape_from_config

# Totals as published; active ones without embeddings that are only looked up, as gpt-oss's model
# card counts them, where the reports state them.
PUBLISHED = {
    "google/gemma-3-270m": (0.268, None),
    "google/gemma-3-4b-it": (4.3, None),
    "meta-llama/Llama-3.1-8B": (8.03, None),
    "Qwen/Qwen3-4B": (4.0, None),
    "Qwen/Qwen3-8B": (8.2, None),
    "Qwen/Qwen3-32B": (32.8, None),
    "Qwen/Qwen3-30B-A3B": (30.5, 3.3),
    "openai/gpt-oss-20b": (20.91, 3.61),
    "openai/gpt-oss-120b": (116.83, 5.13),
    "deepseek-ai/DeepSeek-V3": (671, 37),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_parameters(name: str) -> None:
    shape = published_shape(name)
    assert shape is not None
    total, active = PUBLISHED[name]
    assert shape.parameters / 1e9 == pytest.approx(total, rel=0.01)
    if active is None:
        assert shape.active_parameters == shape.parameters
    else:
        counted = [shape.active_parameters, shape.active_parameters - shape.embedding]
        assert min(abs(each / 1e9 / active - 1) for each in counted) < 0.02
    assert published_shape(f"{name}@main") == shape
    assert published_shape("org/unknown") is None


@pytest.mark.parametrize("family", CONFIGS)
def test_a_shape_from_a_configuration_is_that_of_the_network(family: str) -> None:
    config = CONFIGS[family]()
    network = AutoModelForCausalLM.from_config(config)
    shape = shape_from_config(config.to_dict())
    assert shape == read_shape(network)
    assert shape.parameters == sum(weight.numel() for weight in network.parameters())
    linear = sum(
        module.weight.numel()
        for name, module in network.named_modules()
        if type(module) is torch.nn.Linear and name != "lm_head"
    )
    kinds = {MatrixKind.ATTENTION, MatrixKind.MLP}
    assert linear == sum(matrix.weights for matrix in shape.matrices if matrix.kind in kinds)


def test_a_shape_is_kept_and_no_network_is_built_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kept_facts, "cache_dir", lambda: tmp_path)
    config = CONFIGS["deepseek_v3"]().to_dict()  # layers of two kinds
    shapes._shape.cache_clear()
    shape = shape_from_config(config)
    shapes._shape.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(shapes, "_built", lambda _: pytest.fail("a network is built"))
        assert shape_from_config(config) == shape
    assert len({*shape.layers}) == 2
    other = shape_from_config({**config, "hidden_size": 64})
    assert other.hidden == 64


def test_a_cache_holds_keys_and_values_or_what_they_are_computed_from() -> None:
    for name, values in (
        ("meta-llama/Llama-3.1-8B", 32 * 8 * 2 * 128),  # grouped queries
        ("deepseek-ai/DeepSeek-V3", 61 * (512 + 64)),  # latent attention
    ):
        shape = published_shape(name)
        assert shape is not None
        assert cache_bytes(shape, Precision.BFLOAT16) == 2 * values


def test_windows_alternate_as_the_configuration_says() -> None:
    gemma = published_shape("google/gemma-3-270m")
    assert gemma is not None
    assert [layer.window for layer in gemma.layers] == ([512] * 5 + [None]) * 3
    llama = published_shape("meta-llama/Llama-3.1-8B")
    assert llama is not None
    assert {layer.window for layer in llama.layers} == {None}
