"""A causal language model in memory, with its tokenizer and its adapters."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, cast

import torch

from isogloss.compat.interfaces import CausalNetwork, Tokenizer
from isogloss.errors import ModelError
from isogloss.models.adapter_weights import Replacement
from isogloss.models.dtypes import NF4
from isogloss.models.locate import ModelLocation

if TYPE_CHECKING:
    from types import ModuleType

    from peft import PeftModel

    from isogloss.compat.transformers import Rotation
    from isogloss.models.cpu_layers import Forward


class Batching(StrEnum):
    """How several sequences go through the model in one pass."""

    TREE = "tree"  # in one row, common beginnings once, with attention of our own
    PADDED = "padded"  # a row each, padded on the right, with the model's own attention
    SINGLE = "single"  # not at all: one pass per sequence


class Decoding(StrEnum):
    """How texts are continued token by token."""

    FUSED = "fused"  # rows of a cache of fixed size, with torch's flash attention (GPU)
    SLOTS = "slots"  # the same with plain products (GPU)
    BATCHED = "batched"  # several rows with one key-value cache, padded on the left
    CACHED = "cached"  # one row at a time with the cache or state that the model returns
    UNCACHED = "uncached"  # every token by a pass of the whole text


@dataclass(frozen=True)
class Paths:
    """The fastest computations that gave a model's own logits when they were tried on it.

    `apart` is whether the head can be applied to selected hidden states only; otherwise passes run
    through the whole model and have the logits of all positions. `longest` is the length above
    which a sequence changes others of its batch (see `compat.transformers.rescaling_length`), None
    if there is none.
    """

    batching: Batching = Batching.SINGLE
    apart: bool = False
    longest: int | None = None


@dataclass
class LanguageModel:
    """A causal language model, its tokenizer and the adapters loaded into it.

    `network` is the transformers model; once an adapter is attached, LoRA layers are inside it and
    `peft_model` wraps it. `dtype` is the dtype of matrix products (autocast). `device` receives the
    tokens; with a device map, layers may be on other devices.
    """

    location: ModelLocation
    tokenizer: Tokenizer
    network: CausalNetwork
    device: torch.device
    dtype: torch.dtype
    peft_model: "PeftModel | None" = None
    adapters: dict[str, str] = field(default_factory=dict)  # digest -> peft's adapter name
    replacements: list[Replacement] = field(default_factory=list)  # biases that an adapter brings
    active: str | None = None  # digest of the adapter in use
    spoilt: str | None = None  # why the base model in memory is no longer itself
    paths: Paths | None = None  # cached by paths.proven_paths
    splits: bool | None = None  # cached by lm_head.can_split
    decoding: Decoding | None = None  # cached by decoding.proven_decoding
    compiled: dict[torch.nn.Module, object] | None = None  # calls of layers, see compilation
    lighter: "dict[torch.nn.Module, Forward] | None" = None  # cached by cpu_layers
    lighter_rotations: "dict[ModuleType, Rotation]" = field(default_factory=dict)  # with it
    cached_heads: list[tuple[int, int, int]] | None = None  # cached by slots
    captures: bool | None = None  # whether a decode step gives a CUDA graph; cached by slots

    @property
    def module(self) -> torch.nn.Module:
        """The network, for functions that take any module."""
        return cast(torch.nn.Module, self.network)

    @property
    def dtype_name(self) -> str:
        """The value of the parameter `dtype` that loads this model again."""
        return NF4 if self.quantised else str(self.dtype).removeprefix("torch.")

    @property
    def quantised(self) -> bool:
        """Whether the weights of linear layers have 4 bits."""
        return bool(getattr(self.network, "is_loaded_in_4bit", False))

    @property
    def offloaded(self) -> bool:
        """Whether some layers stay in CPU memory or on disk until `device` needs them."""
        return any(weight.is_meta for weight in self.network.parameters())

    @property
    def head_apart(self) -> bool:
        """Whether the head can be applied to selected hidden states only."""
        return self.paths is not None and self.paths.apart

    @property
    def casts_lora_inputs(self) -> bool:
        """Whether LoRA layers get float32 inputs where autocast multiplies in another dtype.

        On a GPU the copies would be a large part of the memory traffic. On a CPU dropout draws
        other random numbers for another dtype, and an earlier training could not be repeated.
        """
        return self.device.type != "cuda" or self.dtype == torch.float32

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which matrix products run in `dtype`."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @cached_property
    def head_weight(self) -> torch.Tensor:
        """The weight [V, D] of the head in `dtype`, cast once.

        Autocast would cast it on every pass, and the head of a small model outweighs the rest.
        """
        weight = self.network.get_output_embeddings().weight
        with torch.inference_mode(False):  # scoring may be the first to use it, training the next
            return weight.detach().to(self.dtype)

    @contextmanager
    def using(self, digest: str | None) -> Iterator[None]:
        """Context in which the adapter with that digest is active, or none for None."""
        if self.spoilt:
            raise ModelError(self.spoilt)
        before, self.active = self.active, digest
        try:
            if self.peft_model is None:
                if digest is not None:
                    raise KeyError(digest)
                yield
            elif digest is not None:
                self.peft_model.set_adapter(self.adapters[digest])
                with _replaced(self.replacements):
                    yield
            else:
                with self.peft_model.disable_adapter():
                    yield
        finally:
            self.active = before


@contextmanager
def _replaced(replacements: Sequence[Replacement]) -> Iterator[None]:
    """Context in which biases have the values that an adapter brings."""
    before = [replacement.parameter.data for replacement in replacements]
    for replacement in replacements:
        replacement.parameter.data = replacement.value
    try:
        yield
    finally:
        for replacement, value in zip(replacements, before, strict=True):
            replacement.parameter.data = value
