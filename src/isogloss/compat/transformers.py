"""transformers: another attention function for single passes, and saving dequantised models.

Relies on `_can_set_attn_implementation`, on `_attn_implementation` of a configuration taking effect
at the next pass, on forward passes handing unknown keyword arguments to the attention function, and
on no mask being made for an attention function without a mask function. Further on the attention
layers of a model looking `apply_rotary_pos_emb` up in their own Python module.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

import torch
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache

from isogloss.compat import public_only
from isogloss.compat.interfaces import CausalNetwork

ROTARY = "apply_rotary_pos_emb"
Rotation = Callable[..., tuple[torch.Tensor, torch.Tensor]]
KNOWN_LAYERS = {"full_attention", "sliding_attention"}


class _Config(Protocol):
    """The private part of a configuration."""

    _attn_implementation: str


def register_attention(name: str, function: Callable[..., object]) -> None:
    """Make an attention function known to transformers by name."""
    AttentionInterface.register(name, function)


def attention_replaceable(network: CausalNetwork) -> bool:
    """Whether a registered function may take the place of the model's attention for a pass."""
    if public_only():
        return False
    config = getattr(network.get_decoder(), "config", network.config)  # not every decoder is found
    kinds = set(getattr(config, "layer_types", None) or ())
    return (
        kinds <= KNOWN_LAYERS
        and cast(PreTrainedModel, network)._can_set_attn_implementation()
        and cast(_Config, network.config)._attn_implementation != "flash_attention_2"
    )


@contextmanager
def replaced_attention(network: CausalNetwork, name: str) -> Iterator[None]:
    """Context in which the model computes attention with the function registered as `name`.

    The function receives the keyword arguments of the forward pass.
    """
    config = cast(_Config, network.get_decoder().config)
    own = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = own


def rotary_functions(network: CausalNetwork) -> dict[ModuleType, Rotation]:
    """What rotates queries and keys, by the Python module in which layers look it up."""
    if public_only():
        return {}
    names = {type(module).__module__ for module in network.modules()}
    found = {sys.modules[name]: getattr(sys.modules[name], ROTARY, None) for name in names}
    return {module: function for module, function in found.items() if callable(function)}


@contextmanager
def replaced_rotation(module: ModuleType, rotation: Rotation) -> Iterator[None]:
    """Context in which the layers of a Python module rotate with another function."""
    own = getattr(module, ROTARY)
    setattr(module, ROTARY, rotation)
    try:
        yield
    finally:
        setattr(module, ROTARY, own)


def rescaling_length(network: CausalNetwork) -> int | None:
    """The length of a sequence above which it changes the positions of all others in its pass.

    Rotary embeddings of the kinds `dynamic` and `longrope` choose their frequencies by the longest
    sequence of a pass. None for a model without them.
    """
    lengths = []
    for module in network.modules():
        kinds = getattr(module, "rope_type", None)
        kinds = set(kinds.values()) if isinstance(kinds, dict) else {kinds}
        if any("dynamic" in kind or kind == "longrope" for kind in kinds if isinstance(kind, str)):
            lengths.extend(_original_lengths(module))
    return min(lengths, default=None)


def _original_lengths(module: torch.nn.Module) -> list[int]:
    """The lengths for which a module of rotary embeddings has its first frequencies."""
    config = cast(PreTrainedConfig, module.config)
    settings = getattr(config, "rope_parameters", None) or {}
    by_layer = [entry for entry in settings.values() if isinstance(entry, dict)] or [settings]
    stated = [entry.get("original_max_position_embeddings") for entry in by_layer]
    lengths = [length for length in stated if length is not None]
    return lengths or [cast(int, config.max_position_embeddings)]


def empty_cache(network: CausalNetwork) -> DynamicCache:
    """A key-value cache with the kinds of layers that the model has."""
    return DynamicCache(config=cast(PreTrainedConfig, network.get_decoder().config))


def layer_classes(network: CausalNetwork) -> list[str]:
    """Class names of the layers of a model, as far as transformers states them."""
    return [] if public_only() else list(cast(PreTrainedModel, network)._no_split_modules or ())


def save_dequantised(network: PreTrainedModel, folder: Path) -> None:
    """Save a model that transformers has dequantised while loading it.

    `save_pretrained` rejects a model that still has its quantiser. The public path copies the
    weights into a new model first.
    """
    from transformers import AutoModelForCausalLM

    if public_only():
        settings = network.config.to_dict()
        settings.pop("quantization_config", None)
        config = type(network.config).from_dict(settings)
        copy = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        copy.load_state_dict(network.state_dict())
        copy.generation_config = network.generation_config
        copy.save_pretrained(folder)
        return
    vars(network).update(hf_quantizer=None, is_quantized=False)
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    network.save_pretrained(folder)
