"""transformers: another attention function for single passes, and saving dequantised models.

Relies on `_can_set_attn_implementation`, on `_attn_implementation` of a configuration taking effect
at the next pass, on forward passes handing unknown keyword arguments to the attention function, and
on no mask being made for an attention function without a mask function.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast

import torch
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache

from isogloss.compat import public_only
from isogloss.compat.interfaces import CausalNetwork

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
    kinds = set(getattr(network.get_decoder().config, "layer_types", None) or ())
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
