"""Memory: bytes by formula, on shapes small enough for arithmetic by hand."""

import pytest

from isogloss.costs.memory import (
    GPU_COPIES,
    LIBRARY_BYTES,
    LOGIT_COPIES,
    NF4_BYTES,
    Precision,
    activation_bytes,
    cache_bytes,
    layer_bytes,
    scoring_memory,
    training_memory,
    weight_bytes,
)
from isogloss.costs.operations import Lora
from isogloss.costs.shape import Layer, Matrix, MatrixKind, ModelShape

LAYER = Layer(
    tuple(
        Matrix(kind, inputs, outputs)
        for kind, inputs, outputs in (
            (MatrixKind.ATTENTION, 8, 16),
            (MatrixKind.ATTENTION, 8, 4),
            (MatrixKind.ATTENTION, 8, 4),
            (MatrixKind.ATTENTION, 16, 8),
            (MatrixKind.MLP, 8, 20),
            (MatrixKind.MLP, 8, 20),
            (MatrixKind.MLP, 20, 8),
        )
    ),
    other=16,
    normed=16,
    heads=4,
    key_heads=1,
    key_width=4,
    value_width=4,
    cached=8,
    window=10,
)
SHAPE = ModelShape((LAYER, LAYER), hidden=8, vocabulary=50, tied=False, other=8)
MATRICES = 2 * (128 + 32 + 32 + 128 + 3 * 160)


def test_weights_in_each_precision() -> None:
    parameters = MATRICES + 2 * 16 + 8 + 2 * 400
    assert SHAPE.parameters == parameters
    assert weight_bytes(SHAPE, Precision.FLOAT32) == 4 * parameters
    assert weight_bytes(SHAPE, Precision.BFLOAT16) == 2 * parameters
    expected = NF4_BYTES * MATRICES + 2 * (parameters - MATRICES)
    assert weight_bytes(SHAPE, Precision.NF4) == pytest.approx(expected)
    assert pytest.approx(4.127, abs=1e-3) == 8 * NF4_BYTES  # bits, as in the paper


def test_activations_are_the_inputs_of_norms_lora_attention_and_gate() -> None:
    attention = 8 + 16 + 4 + 4 + 16  # input, queries, keys, values, attended values
    mlp = 8 + 4 * 20  # input; gate, its activation, up, product
    assert layer_bytes(LAYER, 8, Precision.FLOAT32) == 4 * (16 + attention + mlp)
    assert layer_bytes(LAYER, 8, Precision.BFLOAT16) == 4 * 16 + 2 * (attention + mlp)
    with_weights = layer_bytes(LAYER, 8, Precision.FLOAT32, keys=100)
    assert with_weights == 4 * (16 + attention + mlp + 16 + 4 * 10)  # within the window
    whole = activation_bytes(SHAPE, Precision.FLOAT32)
    assert whole == 2 * 4 * (16 + attention + mlp)
    kept = activation_bytes(SHAPE, Precision.FLOAT32, checkpointing=True)
    assert kept == 4 * (16 + attention + mlp) + 2 * 4 * 8


def test_experts_keep_what_each_that_a_token_uses_keeps() -> None:
    experts = (
        Matrix(MatrixKind.EXPERT, 8, 40, copies=6, used=2),
        Matrix(MatrixKind.EXPERT, 20, 8, copies=6, used=2),
    )
    dense = layer_bytes(Layer(LAYER.matrices[:4]), 8, Precision.FLOAT32)
    mixture = layer_bytes(Layer((*LAYER.matrices[:4], *experts)), 8, Precision.FLOAT32)
    assert mixture - dense == 4 * (2 * 2 * 8 + 2 * 4 * 20)


def test_peaks_are_the_sums_of_their_parts() -> None:
    lora = Lora(rank=2)
    adapter = 4 * SHAPE.lora_weights(2)
    training = training_memory(SHAPE, Precision.BFLOAT16, 100, 5, lora)
    assert (training.adapter, training.optimiser) == (adapter, 3 * adapter)
    assert training.activations == 100 * activation_bytes(SHAPE, Precision.BFLOAT16)
    assert training.logits == LOGIT_COPIES * 4 * 5 * 50
    assert training.total == pytest.approx(
        weight_bytes(SHAPE, Precision.BFLOAT16) + 4 * adapter + training.activations + 4000
    )
    scoring = scoring_memory(SHAPE, Precision.BFLOAT16, 1000, cached_tokens=30)
    assert scoring.activations == GPU_COPIES * 1000 * layer_bytes(LAYER, 8, Precision.BFLOAT16)
    assert scoring.cache == 30 * cache_bytes(SHAPE, Precision.BFLOAT16) == 30 * 2 * 2 * 8
    assert scoring.process == 0
    on_cpu = scoring_memory(SHAPE, Precision.FLOAT32, 1, on_cpu=True)
    assert on_cpu.process > LIBRARY_BYTES > on_cpu.weights
