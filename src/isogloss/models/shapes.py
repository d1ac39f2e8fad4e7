"""Shapes of models, from a config.json alone: the network is built without memory and read.

transformers builds the real architecture on the `meta` device, so that parameters are counted
exactly for every architecture it knows, mixtures of experts and latent attention included.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter

from isogloss.compat.interfaces import CausalNetwork
from isogloss.costs.shape import Layer, Matrix, MatrixKind, ModelShape
from isogloss.models.kept_facts import kept_fact, versions_of
from isogloss.models.locate import EMBEDDED, ModelLocation
from isogloss.models.model_files import model_settings

if TYPE_CHECKING:  # takes seconds to import
    import torch

SHAPE_VERSION = 1  # of what is read of a network
EMBEDDED_ON_HUB = "google/gemma-3-270m"  # the model that the embedded one is quantised from
# What of a layer feeds only the output of the same token; see `forward.TOKENWISE`.
OWN_TOKEN = ("q_proj", "o_proj", "mlp")
# Names of the number of experts that a token is sent to.
USED_EXPERTS = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "top_k_experts",
    "moe_topk",
    "moe_k",
)


def shape_of(location: ModelLocation) -> ModelShape:
    """The shape of a model on this machine."""
    return shape_from_config(model_settings(location.folder, f"model {location.name!r}"))


def published_shape(name: str) -> ModelShape | None:
    """The shape of a model whose config.json isogloss knows by heart; None for others.

    These are the embedded model, before it is dequantised, and models of the Hub. The file has of
    each config.json what decides the sizes.
    """
    text = (resources.files("isogloss.models") / "published_configs.json").read_text("utf-8")
    name = EMBEDDED_ON_HUB if name == EMBEDDED else name.partition("@")[0]
    config = json.loads(text).get(name)
    return shape_from_config(config) if config else None


def shape_from_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape of the causal language model that transformers builds from a config.json.

    What is not in the configuration has the default of its `model_type`. Raises what transformers
    raises for a model that it does not know.
    """
    return _shape(json.dumps(dict(config), sort_keys=True))


@lru_cache
def _shape(text: str) -> ModelShape:
    """The kept shape of a configuration: building the network takes seconds."""
    depends_on = {"config": text, "version": SHAPE_VERSION, **versions_of("transformers")}
    kept = kept_fact("shape", depends_on, TypeAdapter(_Kept), lambda: _Kept.of(_built(text)))
    return kept.shape()


@dataclass(frozen=True)
class _Kept:
    """A shape with each of its different layers once, and the number of that of each layer."""

    kinds: tuple[Layer, ...]
    order: tuple[int, ...]
    rest: ModelShape

    @classmethod
    def of(cls, shape: ModelShape) -> "_Kept":
        """What is kept of a shape."""
        order = tuple(map(shape.kinds.index, shape.layers))
        return cls(shape.kinds, order, replace(shape, layers=()))

    def shape(self) -> ModelShape:
        """The shape again."""
        return replace(self.rest, layers=tuple(self.kinds[at] for at in self.order))


def _built(text: str) -> ModelShape:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = json.loads(text)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device("meta"):
        network = cast(CausalNetwork, AutoModelForCausalLM.from_config(config))
    return read_shape(network)


def read_shape(network: CausalNetwork) -> ModelShape:
    """The shape of a network in memory or on the `meta` device."""
    # Architectures name their sizes as they like; no type has all of them.
    config: Any = network.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or []
    modules = list(getattr(network.get_decoder(), "layers", []))
    layers = tuple(
        _layer(module, config, kinds[index] if index < len(kinds) else None)
        for index, module in enumerate(modules)
    )
    embedding = network.get_input_embeddings().weight
    head = network.get_output_embeddings()
    tied = head is None or head.weight is embedding or bool(config.tie_word_embeddings)
    vocabulary, hidden = embedding.shape
    shape = ModelShape(layers, hidden, vocabulary, tied)
    total = sum(weight.numel() for weight in network.parameters())
    if tied and head is not None and head.weight is not embedding:
        total -= head.weight.numel()
    return ModelShape(layers, hidden, vocabulary, tied, total - shape.parameters)


def _layer(module: "torch.nn.Module", config: Any, kind: str | None) -> Layer:
    matrices = tuple(_matrices(module, config))
    total = sum(weight.numel() for weight in module.parameters())
    sizes: dict[str, Any] = {}
    if any("Attention" in type(part).__name__ for part in module.modules()):
        sizes = _attention(config, kind)
    return Layer(
        matrices,
        other=total - sum(matrix.weights for matrix in matrices),
        normed=_normed(module, sizes),
        **sizes,
    )


def _matrices(layer: "torch.nn.Module", config: Any) -> Iterator[Matrix]:
    used = next((at for name in USED_EXPERTS if (at := getattr(config, name, None))), 1)
    for name, module in layer.named_modules():
        parts = name.split(".")
        is_expert = "Expert" in type(module).__name__
        for weight in module.parameters(recurse=False):
            if weight.ndim == 3 and is_expert:
                copies, first, second = weight.shape
                yield Matrix(
                    MatrixKind.EXPERT, second, first, copies, min(used, copies), own_token=True
                )
            elif weight.ndim == 2 and not is_expert:
                kind = MatrixKind.ATTENTION if "attn" in name or "attention" in name else None
                if "Router" in type(module).__name__ or re.fullmatch(r"gate|router", parts[-1]):
                    kind = MatrixKind.ROUTER
                first, second = weight.shape
                own = any(part in OWN_TOKEN for part in parts)
                yield Matrix(kind or MatrixKind.MLP, second, first, own_token=own)


def _attention(config: Any, kind: str | None) -> dict[str, Any]:
    """The sizes of attention in a layer, by the names of `Layer`."""
    heads = getattr(config, "num_attention_heads", None) or 0
    if not heads or not isinstance(heads, int):
        return {}
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    window = getattr(config, "sliding_window", None)
    if kind is not None and "sliding" not in kind:
        window = None
    latent = getattr(config, "kv_lora_rank", None)
    if latent:  # transformers caches the latent values, from which each head computes its own
        rope = config.qk_rope_head_dim
        return {
            "heads": heads,
            "key_heads": heads,
            "key_width": config.qk_nope_head_dim + rope,
            "value_width": config.v_head_dim,
            "cached": latent + rope,
            "window": window,
        }
    return {
        "heads": heads,
        "key_heads": key_heads,
        "key_width": width,
        "value_width": width,
        "cached": 2 * key_heads * width,
        "window": window,
    }


def _normed(layer: "torch.nn.Module", sizes: Mapping[str, Any]) -> int:
    """Values per token that the norms of a layer take in."""
    values = 0
    for name, module in layer.named_modules():
        weights = list(module.parameters(recurse=False))
        if "Norm" not in type(module).__name__ or not weights or weights[0].ndim != 1:
            continue
        width = weights[0].numel()
        if name.endswith("q_norm") and width == sizes.get("key_width"):
            width *= sizes["heads"]
        if name.endswith("k_norm") and width == sizes.get("key_width"):
            width *= sizes["key_heads"]
        values += width
    return values
