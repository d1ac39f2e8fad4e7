"""Operations of a model's linear layers, counted by `isogloss.costs` from a configuration.

What results call the share of product speed counts these alone: attention, norms and embedding
look-ups count as waste.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from isogloss.costs.operations import Lora, Work, forward_operations, training_operations
from isogloss.costs.shape import ModelShape
from isogloss.models.shapes import shape_from_config
from isogloss.prompts.tokenisation import EncodedPrompt

__all__ = [
    "Shape", "Speed", "Work", "body_flops", "head_shape", "layer_shapes", "least_seconds",
    "lora_flops", "product_flops",
]  # fmt: skip


class Shape(NamedTuple):
    """Inputs and outputs of a linear layer."""

    inputs: int
    outputs: int


class Speed(NamedTuple):
    """Operations per second that the machine reaches on products of these shapes."""

    body: float
    head: float


def _shape(config: Mapping[str, Any]) -> ModelShape:
    """The shape of a config.json; the layers of Llama where it names no architecture."""
    return shape_from_config({"model_type": "llama", **config})


def layer_shapes(config: Mapping[str, Any]) -> list[Shape]:
    """The products of one token in the last block (such as q, k, v, o, gate, up, down)."""
    return [
        Shape(matrix.inputs, matrix.outputs)
        for matrix in _shape(config).layers[-1].matrices
        for _ in range(matrix.used)
    ]


def head_shape(config: Mapping[str, Any]) -> Shape:
    """The layer that computes the logits."""
    shape = _shape(config)
    return Shape(shape.hidden, shape.vocabulary)


def product_flops(shapes: list[Shape]) -> int:
    """Operations of one token with each of these layers."""
    return sum(2 * shape.inputs * shape.outputs for shape in shapes)


def body_flops(config: Mapping[str, Any]) -> int:
    """Operations of one token with all layers but the head, forward."""
    return sum(layer.operations for layer in _shape(config).layers)


def lora_flops(config: Mapping[str, Any], rank: int) -> int:
    """Operations of one token with the LoRA matrices of all layers but the head, forward."""
    return 2 * _shape(config).lora_weights(rank)


def separate_work(encoded: Iterable[EncodedPrompt]) -> Work:
    """The work of scoring every choice as a sequence of its own, the head at its tokens."""
    pairs = [pair for entry in encoded for pair in zip(*entry, strict=True)]
    return Work(
        sum(len(sequence) - 1 for sequence, _ in pairs),
        sum(len(sequence) - start for sequence, start in pairs),
    )


def least_seconds(
    work: Work, config: Mapping[str, Any], speed: Speed, lora_rank: int | None = None
) -> float:
    """Lower bound of the time: the products of the linear layers at the machine's own speed.

    With a `lora_rank` the work is a training step.
    """
    shape = _shape(config)
    if lora_rank is None:
        operations = forward_operations(shape, work, attention=False)
    else:
        operations = training_operations(shape, work, Lora(lora_rank), attention=False)
    return operations.body / speed.body + operations.head / speed.head
