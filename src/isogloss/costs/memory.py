"""Memory in bytes: weights, adapter, optimiser, activations, logits, key-value cache, process."""

from dataclasses import dataclass
from enum import StrEnum

from isogloss.costs.operations import Lora
from isogloss.costs.shape import Layer, MatrixKind, ModelShape


class Precision(StrEnum):
    """The dtype of products; with nf4 the linear layers have 4-bit weights."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    NF4 = "nf4"

    @property
    def width(self) -> int:
        """Bytes of a value in products."""
        return 4 if self == Precision.FLOAT32 else 2


# 4 bits per weight, a scale of 8 bits per 64 weights, and one of 32 bits per 256 of these (QLoRA,
# Dettmers et al., arXiv:2305.14314, section 3).
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
FLOAT32_BYTES = 4
OPTIMISER_COPIES = 2  # AdamW: mean and square of each gradient
LOGIT_COPIES = 4  # logits, their log-softmax, and the gradients of both, in float32
# Measured with torch 2.13 and transformers 5.23 on Linux (docs/explanation/costs.md).
LIBRARY_BYTES = 0.42e9  # Python, torch, transformers, peft
TOKENIZER_BYTES = 1300  # per token of the vocabulary
TRIAL_BYTES = 1050  # per token of the vocabulary: the passes that are tried on a model once
CPU_FRAGMENTATION = 1.3  # of activations in training: glibc keeps freed blocks of other sizes
# Measured with Qwen3-8B on an H200 (same page): a pass without gradients has more than one layer's
# activations, for copies in float32, and compiled layers keep less for the backward pass.
GPU_COPIES, COMPILED = 2.0, 0.8
COMPILED_FROM = 1e9  # parameters: smaller models are not compiled
HEAD_POSITIONS, HEAD_PART = 512, 8192  # whose logits scoring has at a time, in three copies


@dataclass(frozen=True)
class Memory:
    """Peak memory in bytes, by what holds it. `process` is zero on a GPU."""

    weights: float
    adapter: float = 0.0
    optimiser: float = 0.0  # gradients and both moments
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0
    process: float = 0.0

    @property
    def total(self) -> float:
        """All together."""
        parts = (self.weights, self.adapter, self.optimiser, self.activations)
        return sum(parts) + self.logits + self.cache + self.process


def weight_bytes(shape: ModelShape, precision: Precision) -> float:
    """Weights in memory; nf4 leaves embeddings, head, norms, routers and experts in bfloat16."""
    if precision != Precision.NF4:
        return precision.width * shape.parameters
    quantised = sum(
        matrix.weights
        for matrix in shape.matrices
        if matrix.kind in {MatrixKind.ATTENTION, MatrixKind.MLP}
    )
    return NF4_BYTES * quantised + precision.width * (shape.parameters - quantised)


def layer_bytes(
    layer: Layer, hidden: int, precision: Precision, keys: float | None = None
) -> float:
    """Bytes per token that a layer keeps for its backward pass, with LoRA on its linear layers.

    What operations keep, counted as by Korthikanti et al. 2022 (arXiv:2205.05198, section 4.1), for
    layers with gated MLP and frozen weights: inputs of norms in float32; inputs of LoRA; queries,
    keys and values; gate, its activation, up and their product. `keys` is the number of tokens
    attended to where attention keeps its weights and a copy of the queries (on a CPU); fused
    attention keeps neither.
    """
    mlp = [
        matrix
        for matrix in layer.matrices
        if matrix.kind in {MatrixKind.MLP, MatrixKind.EXPERT} and matrix.used
    ]
    # A gated MLP has three matrices of hidden x inner weights.
    inner = sum(matrix.used * matrix.inputs * matrix.outputs for matrix in mlp) / (3 * hidden)
    routed = max((matrix.used for matrix in mlp if matrix.kind == MatrixKind.EXPERT), default=0)
    queries = layer.heads * layer.key_width
    values = (layer.key_heads + layer.heads) * layer.value_width  # and attended values
    attention: float = hidden + queries + layer.key_heads * layer.key_width + values
    if keys is not None:
        attended = keys if layer.window is None else min(keys, layer.window)
        attention += queries + layer.heads * attended
    products = attention + (1 + 2 * routed) * hidden + 4 * inner
    return FLOAT32_BYTES * layer.normed + precision.width * products


def activation_bytes(
    shape: ModelShape,
    precision: Precision,
    *,
    keys: float | None = None,
    checkpointing: bool = False,
) -> float:
    """Bytes per token of a forward pass that a backward pass needs.

    With `checkpointing` those of the largest layer and the input of every layer.
    """
    layers = [layer_bytes(layer, shape.hidden, precision, keys) for layer in shape.layers]
    if checkpointing:
        return max(layers) + FLOAT32_BYTES * shape.hidden * len(layers)
    return sum(layers)


def cache_bytes(shape: ModelShape, precision: Precision) -> float:
    """Bytes per token of the key-value cache."""
    return precision.width * sum(layer.cached for layer in shape.layers)


def process_bytes(shape: ModelShape) -> float:
    """Bytes of the process besides the model: libraries, tokenizer, passes tried on the model."""
    return LIBRARY_BYTES + (TOKENIZER_BYTES + TRIAL_BYTES) * shape.vocabulary


def scoring_memory(
    shape: ModelShape,
    precision: Precision,
    tokens: float,
    *,
    on_cpu: bool = False,
    lora: Lora | None = None,
    cached_tokens: float = 0,
) -> Memory:
    """Peak memory of scoring batches of `tokens`; of generation with `cached_tokens` in the cache.

    A pass without gradients has the activations of one layer at a time.
    """
    layer = max(layer_bytes(layer, shape.hidden, precision) for layer in shape.kinds)
    adapter = 0.0 if lora is None else FLOAT32_BYTES * shape.lora_weights(*lora)
    working = tokens * layer * (1.0 if on_cpu else GPU_COPIES)
    logits = 3.0 * FLOAT32_BYTES * HEAD_POSITIONS * min(HEAD_PART, shape.vocabulary)
    process = 0.0
    if on_cpu:  # a batch takes the memory that the trial of passes has freed
        process = process_bytes(shape)
        working = max(working + logits - TRIAL_BYTES * shape.vocabulary, 0.0)
        logits = 0.0
    return Memory(
        weights=weight_bytes(shape, precision),
        adapter=adapter,
        activations=working,
        logits=logits,
        cache=cached_tokens * cache_bytes(shape, precision),
        process=process,
    )


def training_memory(
    shape: ModelShape,
    precision: Precision,
    tokens: float,
    positions: float,
    lora: Lora,
    *,
    keys: float = 0.0,
    on_cpu: bool = False,
    checkpointing: bool = False,
) -> Memory:
    """Peak memory of training LoRA in passes with `tokens`, and logits at `positions`."""
    adapter = FLOAT32_BYTES * shape.lora_weights(*lora)
    attended = keys if on_cpu else None
    activations = tokens * activation_bytes(
        shape, precision, keys=attended, checkpointing=checkpointing
    )
    logits = LOGIT_COPIES * FLOAT32_BYTES * positions * shape.vocabulary
    process = 0.0
    if on_cpu:
        activations, logits = CPU_FRAGMENTATION * activations, CPU_FRAGMENTATION * logits
        process = process_bytes(shape)
    elif shape.parameters >= COMPILED_FROM and not checkpointing:
        activations *= COMPILED
    return Memory(
        weights=weight_bytes(shape, precision),
        adapter=adapter,
        optimiser=(1 + OPTIMISER_COPIES) * adapter,
        activations=activations,
        logits=logits,
        process=process,
    )
