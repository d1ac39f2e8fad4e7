"""peft: LoRA added within the matrix product, and the conversion of target modules of mixtures.

Relies on `lora_variant` and `cast_input_dtype_enabled` of peft's linear layers and on
`convert_peft_config_for_transformers`.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Protocol, cast

import torch

from isogloss.compat import public_only
from isogloss.compat.interfaces import CausalNetwork

if TYPE_CHECKING:  # peft takes seconds to import, and most stages do not need it
    from peft import LoraConfig
    from transformers import PreTrainedConfig


class _LoraLayer(Protocol):
    """A linear layer with adapters; each attribute has an entry per adapter."""

    lora_A: dict[str, torch.nn.Linear]  # noqa: N815
    lora_B: dict[str, torch.nn.Linear]  # noqa: N815
    lora_dropout: dict[str, torch.nn.Module]
    lora_variant: dict[str, object]
    scaling: dict[str, float]
    cast_input_dtype_enabled: bool


class _WithinProduct:
    """What peft calls for an adapter of a linear layer that is not plain LoRA."""

    @staticmethod
    def forward(
        module: _LoraLayer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **_: object
    ) -> torch.Tensor:
        """The output of the layer plus that of the adapter: `result + x A^T B^T * scaling`."""
        low_rank = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))
        rows = result.flatten(0, -2)
        factors = (low_rank.flatten(0, -2), module.lora_B[active_adapter].weight.T)
        scaling = module.scaling[active_adapter]
        if torch.is_grad_enabled() or low_rank.dtype != rows.dtype:
            return torch.addmm(rows, *factors, alpha=scaling).view_as(result)
        factors = (factors[0], factors[1].to(rows.dtype))  # autocast leaves in-place products alone
        return rows.addmm_(*factors, alpha=scaling).view_as(result)


def fuse_lora(network: CausalNetwork, adapter: str, *, cast_inputs: bool) -> None:
    """Make the linear layers of an adapter add to their output within the matrix product.

    peft writes three more tensors of the size of the output: the adapter's part, the scaled part
    and the sum. Unless it is to `cast_inputs`, it leaves the input of a layer in its own dtype
    instead of the float32 of the adapter's weights; autocast would cast it back. Layers of other
    kinds are unchanged.
    """
    from peft.tuners.lora import Linear

    if public_only():
        return
    for module in network.modules():
        if type(module) is not Linear:
            continue
        layer = cast(_LoraLayer, module)
        plain = adapter in layer.lora_B and adapter not in layer.lora_variant
        if plain and layer.lora_B[adapter].bias is None:
            layer.lora_variant[adapter] = _WithinProduct()
            layer.cast_input_dtype_enabled = cast_inputs


def rejects_lora(network: CausalNetwork, name: str) -> bool:
    """Whether peft has no LoRA for a module of this name in this model.

    The kernels of Mamba read the weight of `out_proj` and would pass LoRA by.
    """
    if public_only():
        return False
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _check_lora_target_modules_mamba

    try:
        _check_lora_target_modules_mamba(
            LoraConfig(), cast(torch.nn.Module, network), name.rpartition(".")[-1]
        )
    except ValueError:
        return True
    return False


def converted_parameters(config: LoraConfig, network: CausalNetwork) -> set[str]:
    """Names of the parameters to which peft will apply LoRA in place of `target_modules`.

    For Mixture-of-Experts models peft reads names such as `down_proj` as the experts of
    transformers 4 and applies them to the fused experts of transformers 5. `config` is not changed.
    Raises ValueError if the names are some but not all of the parts of a fused parameter.
    """
    converted = deepcopy(config)
    if public_only():
        from peft import inject_adapter_in_model
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            skeleton = AutoModelForCausalLM.from_config(cast("PreTrainedConfig", network.config))
        inject_adapter_in_model(converted, skeleton)
    else:
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

        convert_peft_config_for_transformers(converted, cast(torch.nn.Module, network), None)
    return set(converted.target_parameters or ())
