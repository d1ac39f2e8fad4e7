"""LoRA: which weights of a model get it, by the names that recipes use.

`all-linear` is every linear layer but the head; `attention` is the linear layers of attention. With
`+experts` come the experts of a Mixture-of-Experts model, which transformers keeps in parameters of
three dimensions [experts, out, in]; each expert has a LoRA of the full rank. Other values are
lists of module names, separated by commas, as peft takes them.
"""

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from isogloss.compat.interfaces import CausalNetwork
from isogloss.compat.peft import converted_parameters, rejects_lora
from isogloss.errors import ConfigError
from isogloss.models.target_modules import EXPERTS, GROUPS, has_experts, reject_dropout

if TYPE_CHECKING:  # peft takes seconds to import
    from peft import LoraConfig


def lora_config(
    network: CausalNetwork, target_modules: str, rank: int, alpha: int, dropout: float
) -> "LoraConfig":
    """peft's LoraConfig for a causal language model in memory.

    Raises ConfigError for experts or modules that the model does not have, and for dropout where
    peft has none.
    """
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    experts = _experts(network)
    if has_experts(target_modules) and not experts:
        raise ConfigError(
            f"target_modules is {target_modules!r}, but {network.config.model_type} has no "
            f"experts; expected {target_modules.removesuffix(EXPERTS)}."
        )
    modules, parameters = _targets(network, target_modules, experts)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in network.modules()),
        target_modules=modules,
        target_parameters=parameters or None,
    )
    if experts and converted_parameters(config, network):
        reject_dropout(dropout, target_modules)
    return config


def weights_per_rank(network: CausalNetwork, config: "LoraConfig") -> int:
    """How many weights a LoRA of rank 1 has: inputs and outputs of all matrices that get one."""
    from transformers.pytorch_utils import Conv1D

    head: torch.nn.Module = network.get_output_embeddings()
    modules, parameters = config.target_modules or (), tuple(config.target_parameters or ())
    count = 0
    for name, module in network.named_modules():
        for own, weight in module.named_parameters(recurse=False):
            if _ends_with(f"{name}.{own}", parameters):
                count += math.prod(weight.shape[:-2]) * sum(weight.shape[-2:])
        if not isinstance(module, torch.nn.Linear | Conv1D):
            continue
        chosen = module is not head if modules == "all-linear" else _ends_with(name, modules)
        if chosen and isinstance(module, torch.nn.Linear):
            count += module.in_features + module.out_features
        elif chosen:
            count += sum(module.weight.shape)
    return count


def _ends_with(name: str, ends: Iterable[str]) -> bool:
    return any(f".{name}".endswith(f".{end}") for end in ends)


def _targets(
    network: CausalNetwork, target_modules: str, experts: list[str]
) -> tuple[str | list[str], list[str]]:
    """The modules and the parameters that get LoRA, as peft takes them."""
    group = target_modules.removesuffix(EXPERTS)
    if group not in GROUPS:
        names = [name.strip() for name in target_modules.split(",")]
        # Some names stand for the fused experts of a mixture; peft knows them, the model does not.
        own = _split_by_conversion(network, names)[0] if experts else names
        _check_names(network, own, target_modules)
        return names, []
    parameters = experts if has_experts(target_modules) else []
    exceptions = any(
        isinstance(module, torch.nn.Linear) and not _takes_lora(network, name, module)
        for name, module in network.named_modules()
    )
    if group == "all-linear" and not experts and not exceptions:
        return group, []
    layers = _linear_names(network, attention_only=group == "attention")
    if not layers:
        raise ConfigError(
            f"target_modules is {target_modules!r}, but {network.config.model_type} has no "
            "recognisable attention layers; expected names of modules, separated by commas."
        )
    modules, converted = _split_by_conversion(network, layers)
    if converted and getattr(network, "is_loaded_in_4bit", False):
        raise ConfigError(
            f"target_modules is {target_modules!r}, which in {network.config.model_type} needs "
            f"whole weights ({', '.join(converted)}), but dtype is 'nf4'; expected attention or "
            "names."
        )
    return modules, [*parameters, *converted]


def _check_names(network: CausalNetwork, names: Iterable[str], target_modules: str) -> None:
    """Raise ConfigError for a name without a linear module; peft ignores it among others."""
    modules = [
        name for name, module in network.named_modules() if _takes_lora(network, name, module)
    ]
    for name in names:
        if not any(_ends_with(module, [name]) for module in modules):
            known = sorted({module.split(".")[-1] for module in _linear_names(network)})
            raise ConfigError(
                f"target_modules is {target_modules!r}, but {network.config.model_type} has no "
                f"linear module {name!r}; expected all-linear, attention, either with {EXPERTS}, "
                f"or names of its modules ({', '.join(known)})."
            )


def _linear_names(network: CausalNetwork, *, attention_only: bool = False) -> set[str]:
    """The last two parts of the names of linear layers, without the head."""
    head: torch.nn.Module = network.get_output_embeddings()
    names = set()
    attention: tuple[str, ...] = ()  # prefixes of the names of its modules
    for name, module in network.named_modules():
        if re.search(r"Attention\d*$", type(module).__name__):
            attention = (*attention, f"{name}.")
        included = not attention_only or name.startswith(attention)
        if _takes_lora(network, name, module) and module is not head and included:
            names.add(".".join(name.split(".")[-2:]))
    return names


def _takes_lora(network: CausalNetwork, name: str, module: torch.nn.Module) -> bool:
    """Whether a module is a linear layer whose output is its product and nothing else.

    Routers and grouped layers of some mixtures are linear layers of a class with another `forward`.
    """
    from transformers.pytorch_utils import Conv1D

    if not isinstance(module, torch.nn.Linear | Conv1D) or rejects_lora(network, name):
        return False
    own_class = type(module).__module__.startswith("transformers.models.")
    if not own_class or type(module).forward is torch.nn.Linear.forward:
        return True
    return isinstance(module, torch.nn.Linear) and _gives_product(module)


@torch.no_grad()
def _gives_product(module: torch.nn.Linear) -> bool:
    """Whether a linear layer of a model's own class gives the plain product of its weight."""
    weight = module.weight
    states_2D = torch.linspace(
        -1, 1, 2 * weight.shape[-1], dtype=weight.dtype, device=weight.device
    )
    states_2D = states_2D.view(2, -1)
    try:
        output = module(states_2D)
    except (IndexError, RuntimeError, TypeError, ValueError):
        return False
    product = torch.nn.functional.linear(states_2D, weight, module.bias)
    return isinstance(output, torch.Tensor) and torch.equal(output, product)


def _experts(network: CausalNetwork) -> list[str]:
    """The last two parts of the names of the parameters that hold a layer's experts together."""
    return sorted(
        {
            f"{name.split('.')[-1]}.{parameter}"
            for name, module in network.named_modules()
            if "Expert" in type(module).__name__
            for parameter, weight in module.named_parameters(recurse=False)
            if weight.ndim == 3
        }
    )


def _split_by_conversion(
    network: CausalNetwork, names: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Names of linear layers, as modules or, where peft would take them for experts, as parameters.

    A dense layer or a shared expert may have the name of an expert of transformers 4.
    """
    from peft import LoraConfig

    modules, parameters = [], []
    for name in sorted(names):
        try:
            converted = bool(converted_parameters(LoraConfig(target_modules=[name]), network))
        except ValueError:  # one of several parts of a fused parameter
            converted = True
        if converted:
            parameters.append(f"{name}.weight")
        else:
            modules.append(name)
    return modules, parameters
