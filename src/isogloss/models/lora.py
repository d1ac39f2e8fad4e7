"""LoRA: which weights of a model get it, by the names that recipes have for them.

`all-linear` is every linear layer but the head, `attention` the linear layers of attention; with
`+experts` also the experts of a Mixture-of-Experts model, which transformers keeps in parameters of
three dimensions [experts, out, in], each with a rank of its own for every expert. Anything else is
names of modules, separated by commas, as peft takes them.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch

from isogloss.compat.peft import converted_parameters
from isogloss.errors import ConfigError

EXPERTS = "+experts"
WIDE = ("all-linear", "attention")


def has_experts(target_modules: str) -> bool:
    """Whether a recipe's `target_modules` asks for LoRA on experts.

    ConfigError if it has a plus and is none of the spellings.
    """
    if target_modules in {f"{wide}{EXPERTS}" for wide in WIDE}:
        return True
    if "+" not in target_modules:
        return False
    raise ConfigError(
        f"target_modules {target_modules!r} cannot be read; expected all-linear, attention, "
        f"all-linear{EXPERTS}, attention{EXPERTS}, or names separated by commas."
    )


def reject_dropout(dropout: float, target_modules: str) -> None:
    """ConfigError if there is dropout, for LoRA that peft adds to a parameter and not beside it."""
    if dropout > 0:
        raise ConfigError(
            f"dropout must be 0 with target_modules {target_modules!r}, but got {dropout:g}: peft "
            "has none for experts and for layers that have their names."
        )


def lora_config(network: Any, target_modules: str, rank: int, alpha: int, dropout: float) -> Any:
    """peft's LoraConfig for a causal language model in memory.

    Raises ConfigError if the model has no experts and they are asked for, if LoRA on them should
    have dropout, or for a name that none of its modules has.
    """
    from peft import LoraConfig

    wide = target_modules.partition("+")[0]
    kind = network.config.model_type
    wanted = has_experts(target_modules)
    experts = _experts(network)
    if wanted and not experts:
        raise ConfigError(
            f"target_modules is {target_modules!r}, but {kind} has no experts; expected {wide}."
        )
    modules: str | list[str]
    parameters = experts if wanted else []
    if wide == "all-linear" and not experts:
        modules = wide
    elif wide in WIDE:
        names = _linear(network, attention_only=wide == "attention")
        modules, reached = _reached(network, names)
        parameters = [*parameters, *reached]
        if reached and getattr(network, "is_loaded_in_4bit", False):
            raise ConfigError(
                f"target_modules is {target_modules!r}, which in {kind} takes whole weights "
                f"({', '.join(reached)}), but dtype is 'nf4'; expected attention or names."
            )
        if not names:
            raise ConfigError(
                f"target_modules is {target_modules!r}, but no attention is found in {kind}; "
                "expected names of modules, separated by commas."
            )
    else:
        modules = [name.strip() for name in target_modules.split(",")]
        # What fused experts were before transformers 5 has names that peft still takes.
        own = _reached(network, modules)[0] if experts else modules
        _check_names(network, own, target_modules)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=modules,
        target_parameters=parameters or None,
    )
    if experts and converted_parameters(config, network):
        reject_dropout(dropout, target_modules)
    return config


def _check_names(network: Any, names: Iterable[str], target_modules: str) -> None:
    """ConfigError for names that no linear module has: of several, peft passes over those."""
    there = [name for name, module in network.named_modules() if _is_linear(module)]
    for wanted in names:
        if not any(f".{name}".endswith(f".{wanted}") for name in there):
            linear = sorted({name.split(".")[-1] for name in _linear(network)})
            raise ConfigError(
                f"target_modules is {target_modules!r}, but {network.config.model_type} has no "
                f"linear module {wanted!r}; expected all-linear, attention, either with {EXPERTS}, "
                f"or names of its modules ({', '.join(linear)})."
            )


def _linear(network: Any, *, attention_only: bool = False) -> set[str]:
    """The last two parts of the names of linear layers, the head left out."""
    head = network.get_output_embeddings()
    found = set()
    attention: tuple[str, ...] = ()
    for name, module in network.named_modules():
        if re.search(r"Attention\d*$", type(module).__name__):
            attention = (*attention, f"{name}.")
        within = not attention_only or name.startswith(attention)
        if _is_linear(module) and module is not head and within:
            found.add(".".join(name.split(".")[-2:]))
    return found


def _is_linear(module: torch.nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, torch.nn.Linear | Conv1D)


def _experts(network: Any) -> list[str]:
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


def _reached(network: Any, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names of linear layers as modules, and as parameters where peft has no other way.

    In Mixture-of-Experts models it takes names such as `down_proj` for the experts of before
    transformers 5 and looks for them among the fused ones, though a dense layer or a shared expert
    has that name too.
    """
    from peft import LoraConfig

    modules, parameters = [], []
    for name in sorted(names):
        try:
            renamed = bool(converted_parameters(LoraConfig(target_modules=[name]), network))
        except ValueError:  # one of several that were fused
            renamed = True
        if renamed:
            parameters.append(f"{name}.weight")
        else:
            modules.append(name)
    return modules, parameters
