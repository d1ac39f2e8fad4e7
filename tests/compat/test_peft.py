"""peft: LoRA within the product and converted target modules; peft's own layers agree."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS
from peft import LoraConfig, PeftModel, get_peft_model

from isogloss.compat.peft import converted_parameters, fuse_lora
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.lora import lora_config

MOVED = (
    "peft no longer calls what `lora_variant` holds for an adapter of a linear layer: LoRA is "
    "added by peft's own layers, which is slower. compat/peft.py needs another way."
)


def use_public_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_PUBLIC_INTERFACES", "1")


def adapted(model: LanguageModel, dropout: float = 0.3) -> PeftModel:
    """The model with random LoRA weights on all linear layers."""
    config = lora_config(model.network, "all-linear", 2, 6, dropout)
    peft_model = get_peft_model(model.network, config)
    torch.manual_seed(1)
    for weight in peft_model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    return peft_model


def logits_and_gradients(model: LanguageModel, peft_model: PeftModel) -> list[torch.Tensor]:
    weights = [weight for weight in peft_model.parameters() if weight.requires_grad]
    torch.manual_seed(2)  # of dropout
    with model.autocast():
        logits = model.network(torch.tensor([list(range(7, 47))])).logits.float()
    return [logits, *torch.autograd.grad(logits.logsumexp(-1).sum(), weights)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lora_within_the_product_agrees_with_peft(
    dtype: str, model_folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(model_folder("gemma3"))), dtype)
    peft_model = adapted(model)
    expected = logits_and_gradients(model, peft_model)
    fuse_lora(model.network, "default", cast_inputs=True)
    fused = logits_and_gradients(model, peft_model)
    limit = 1e-5 if dtype == "float32" else 0.05
    for tensor, other in zip(fused, expected, strict=True):
        assert (tensor - other).norm() <= limit * other.norm()
    assert not all(map(torch.equal, fused, expected)), MOVED
    assert len(fused) == 1 + 2 * 7 * 3


def test_inputs_that_keep_their_dtype_give_the_same_results(
    model_folder: Callable[[str], Path],
) -> None:
    model = load(locate(str(model_folder("gemma3"))), "bfloat16")
    peft_model = adapted(model, dropout=0.0)  # which draws other random numbers in another dtype
    fuse_lora(model.network, "default", cast_inputs=True)
    expected = logits_and_gradients(model, peft_model)
    for module in peft_model.modules():
        if hasattr(module, "lora_variant"):
            module.lora_variant.clear()
    fuse_lora(model.network, "default", cast_inputs=False)
    for tensor, other in zip(logits_and_gradients(model, peft_model), expected, strict=True):
        assert (tensor - other).norm() <= 0.02 * other.norm(), MOVED


def test_the_public_path_leaves_pefts_layers_as_they_are(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_public_interfaces(monkeypatch)
    model = load(locate(str(model_folder("gemma3"))), "float32")
    peft_model = adapted(model)
    expected = logits_and_gradients(model, peft_model)
    fuse_lora(model.network, "default", cast_inputs=True)
    assert all(map(torch.equal, logits_and_gradients(model, peft_model), expected))


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_modules_are_converted_to_the_same_parameters_by_a_trial_injection(
    architecture: str, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load(locate(str(model_folder(architecture))), "float32").network
    linear = {
        name.split(".")[-1]
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    configs = [LoraConfig(target_modules=[name]) for name in sorted(linear)]

    def converted() -> list[set[str] | str]:
        results: list[set[str] | str] = []
        for config in configs:
            try:
                results.append(converted_parameters(config, network))
            except ValueError as error:
                results.append(str(error))
        return results

    private = converted()
    use_public_interfaces(monkeypatch)
    assert converted() == private
    assert all(config.target_parameters is None for config in configs), "the configuration changed"
    mixture = architecture in ("mixtral", "qwen3_moe", "deepseek_v3")
    if architecture in ("qwen3_moe", "deepseek_v3"):
        assert any(private), (
            "peft no longer converts `down_proj` to fused experts in place of modules: "
            "models/lora.py may stop asking for it (compat/peft.py)."
        )
    assert mixture or not any(private)
