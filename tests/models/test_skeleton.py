"""An adapter is compared with a model whose weights are elsewhere, by names and shapes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS
from tiny_adapters import change_weights, write_adapter

from isogloss.errors import ModelError
from isogloss.models.adapter_files import read_adapter
from isogloss.models.locate import ModelLocation, locate
from isogloss.models.lora import lora_config
from isogloss.models.skeleton import require_fit, skeleton

WEIGHTS = "model.safetensors"


def without_weights(folder: Path, tmp_path: Path) -> ModelLocation:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere, ignore=shutil.ignore_patterns("*.safetensors"))
    assert not list(elsewhere.glob("*.safetensors"))
    return ModelLocation("served", elsewhere, "0" * 64)


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3_moe"])
def test_an_adapter_fits_its_base_without_weights_and_no_other(
    architecture: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = model_folder(architecture)
    targets = ["q_proj", "o_proj"]
    write_adapter(folder, tmp_path / "adapter", r=2, target_modules=targets)
    location = without_weights(folder, tmp_path)
    require_fit(read_adapter(tmp_path / "adapter"), location)
    change_weights(
        tmp_path / "adapter",
        lambda key, tensor: (
            key,
            tensor[:, :-1] if "layers.0" in key and "lora_A" in key else tensor,
        ),
    )
    with pytest.raises(ModelError, match=r"does not fit model 'served': 2 of its 12 tensors have"):
        require_fit(read_adapter(tmp_path / "adapter"), location)
    change_weights(
        tmp_path / "adapter",
        lambda key, tensor: (
            None if "layers.0" in key else (key.replace("o_proj", "x_proj"), tensor)
        ),
    )
    with pytest.raises(ModelError, match="4 of its 8 tensors have no place in the model, first"):
        require_fit(read_adapter(tmp_path / "adapter"), location)


def test_missing_tensors_are_named(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = model_folder("gemma3")
    write_adapter(folder, tmp_path / "adapter", r=2, target_modules=["q_proj"])
    change_weights(
        tmp_path / "adapter", lambda key, tensor: None if "layers.1" in key else (key, tensor)
    )
    with pytest.raises(ModelError, match=r"2 tensors are missing from its file, first .*layers\.1"):
        require_fit(read_adapter(tmp_path / "adapter"), locate(str(folder)))


@pytest.mark.parametrize("architecture", ["gemma3", "deepseek_v3", "qwen3_moe"])
def test_a_skeleton_names_the_modules_that_the_model_has(
    architecture: str, model_folder: Callable[[str], Path]
) -> None:
    import transformers

    network = skeleton(locate(str(model_folder(architecture))))
    assert all(weight.is_meta for weight in network.parameters())
    with torch.no_grad():
        real = transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture]())
    for targets in ("all-linear", "attention"):
        empty, full = (lora_config(each, targets, 2, 4, 0.0) for each in (network, real))
        assert empty.target_modules == full.target_modules
        assert empty.target_parameters == full.target_parameters


def test_lora_of_single_experts_has_no_place_among_fused_ones(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """As Megatron writes it; transformers 5 keeps the experts of a layer in one tensor."""
    folder = model_folder("qwen3_moe")
    write_adapter(folder, tmp_path / "adapter", r=2, target_modules=["q_proj"])
    change_weights(
        tmp_path / "adapter",
        lambda key, tensor: (key.replace("self_attn.q_proj", "mlp.experts.0.gate_proj"), tensor),
    )
    with pytest.raises(ModelError, match=r"have no place in the model, first .*experts\.0"):
        require_fit(read_adapter(tmp_path / "adapter"), locate(str(folder)))
