"""Floating-point operations of a model's linear layers, counted from its configuration.

The product of one token with a weight of I inputs and O outputs takes 2·I·O operations. Attention,
norms and embedding look-ups are not counted.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Shape(NamedTuple):
    """Inputs and outputs of a linear layer."""

    inputs: int
    outputs: int


class Work(NamedTuple):
    """Tokens that pass through the layers, and positions at which the LM head is applied.

    `last` is the number of tokens whose output of the last layer is needed; for the others that
    layer computes keys and values only.
    """

    tokens: int
    positions: int
    last: int | None = None


class Speed(NamedTuple):
    """Operations per second that the machine reaches on products of these shapes."""

    body: float
    head: float


def layer_shapes(config: Mapping[str, Any]) -> list[Shape]:
    """The linear layers of one block (q, k, v, o, gate, up, down), from a config.json.

    For models with the layers of Llama, such as Gemma, Qwen and Mistral.
    """
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, config["num_key_value_heads"] * head
    attention = [Shape(hidden, queries), Shape(hidden, keys), Shape(hidden, keys)]
    return [
        *attention,
        Shape(queries, hidden),
        Shape(hidden, inner),
        Shape(hidden, inner),
        Shape(inner, hidden),
    ]


def head_shape(config: Mapping[str, Any]) -> Shape:
    """The layer that computes the logits."""
    return Shape(config["hidden_size"], config["vocab_size"])


def product_flops(shapes: list[Shape]) -> int:
    """Operations of one token with each of these layers."""
    return sum(2 * shape.inputs * shape.outputs for shape in shapes)


def body_flops(config: Mapping[str, Any]) -> int:
    """Operations of one token with all layers but the head, forward."""
    return int(config["num_hidden_layers"]) * product_flops(layer_shapes(config))


def lora_flops(config: Mapping[str, Any], rank: int) -> int:
    """Operations of one token with the LoRA matrices of all layers but the head, forward."""
    sizes = sum(sum(shape) for shape in layer_shapes(config))
    return int(config["num_hidden_layers"]) * 2 * rank * sizes


def least_seconds(
    work: Work, config: Mapping[str, Any], speed: Speed, lora_rank: int | None = None
) -> float:
    """Lower bound of the time: the products of the linear layers at the machine's own speed.

    With a `lora_rank` the work is a training step: forward, the gradients of activations (as many
    operations), and the gradients of the low-rank weights (the frozen ones have none).
    """
    passes, lora = 1, 0
    if lora_rank is not None:
        passes, lora = 2, 3 * lora_flops(config, lora_rank)
    body = work.tokens * (passes * body_flops(config) + lora)
    if work.last is not None:
        shapes = layer_shapes(config)
        skipped = product_flops(shapes) - product_flops(shapes[1:3])
        body -= passes * (work.tokens - work.last) * skipped
    head = work.positions * passes * product_flops([head_shape(config)])
    return body / speed.body + head / speed.head
