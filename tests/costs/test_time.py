"""Time: at a share of product speed, with memory traffic, and bound by reads in decoding."""

from dataclasses import replace

import pytest

from isogloss.costs.memory import Precision, activation_bytes, cache_bytes, weight_bytes
from isogloss.costs.operations import Lora, Work, forward_operations, training_operations
from isogloss.costs.shape import assumed_shape
from isogloss.costs.time import (
    CPU_LAYER_SECONDS,
    FORWARD_TRAFFIC,
    H100,
    Machine,
    generation_seconds,
    scoring_seconds,
    step_bytes,
    training_seconds,
)

SHAPE = assumed_shape(1e9)
WORK = Work(1000, 10, 100, keys=50)
HALF = Machine("half", 1e12, 1e11, memory=80e9, share=0.5, compiled_share=0.8)
CPU = replace(HALF, share=None, on_cpu=True)


def test_time_at_a_share_of_product_speed() -> None:
    operations = forward_operations(SHAPE, WORK).total
    assert scoring_seconds(SHAPE, WORK, HALF, compiled=False) == pytest.approx(operations / 0.5e12)
    trained = training_operations(SHAPE, WORK, Lora(8)).total
    assert training_seconds(SHAPE, WORK, HALF, Lora(8)) == pytest.approx(trained / 0.5e12)


def test_compiled_layers_have_a_share_of_their_own_in_scoring() -> None:
    # Loading compiles models from 1e9 parameters on, if one GPU holds them.
    for parameters, share in ((0.9e9, 0.5e12), (1.1e9, 0.8e12), (70e9, 0.5e12)):
        shape = assumed_shape(parameters)
        operations = forward_operations(shape, WORK).total
        assert scoring_seconds(shape, WORK, HALF) == pytest.approx(operations / share)


@pytest.mark.parametrize(("hidden", "share"), [(640, 0.2), (1600, 0.5), (2560, 0.8), (8192, 0.85)])
def test_with_matrix_units_products_of_training_are_slower_in_narrow_models(
    hidden: int, share: float
) -> None:
    shape = replace(SHAPE, hidden=hidden)
    without = training_seconds(shape, WORK, CPU, Lora(8))
    slower = training_seconds(shape, WORK, replace(CPU, matrix_units=True), Lora(8))
    products = training_operations(shape, WORK, Lora(8)).total / 1e12
    assert slower - without == pytest.approx(products * (1 / share - 1))


def test_small_operations_of_decoding_take_time_on_a_cpu() -> None:
    prompts = Work(100, 0, 1, keys=50)
    quicker, seconds = (
        generation_seconds(SHAPE, prompts, 1, 200, machine, Precision.BFLOAT16)
        for machine in (replace(CPU, on_cpu=False), CPU)
    )
    assert seconds - quicker == pytest.approx(200 * len(SHAPE.layers) * CPU_LAYER_SECONDS)


def test_without_a_share_memory_traffic_takes_its_own_time() -> None:
    machine = replace(HALF, share=None, head_operations_per_second=5e11)
    body, head = forward_operations(SHAPE, WORK)
    traffic = FORWARD_TRAFFIC * 1000 * activation_bytes(SHAPE, Precision.FLOAT32)
    expected = body / 1e12 + head / 5e11 + traffic / 1e11
    assert scoring_seconds(SHAPE, WORK, machine) == pytest.approx(expected)


def test_decoding_one_text_is_bound_by_reading_the_weights() -> None:
    prompts = Work(100, 0, 1, keys=50)
    seconds = generation_seconds(SHAPE, prompts, 1, 200, H100, Precision.BFLOAT16)
    read = (weight_bytes(SHAPE, Precision.BFLOAT16) - 2 * SHAPE.embedding) / H100.bytes_per_second
    assert 200 * read < seconds < 1.05 * 200 * read


def test_a_step_reads_the_experts_that_its_rows_use() -> None:
    mixture = assumed_shape(10e9, 1e9)
    experts = [matrix for matrix in mixture.matrices if matrix.kind == "expert"]
    layers = tuple(
        replace(layer, matrices=tuple(
            replace(matrix, copies=8, used=2, outputs=matrix.outputs // 8)
            if matrix.kind == "expert" else matrix
            for matrix in layer.matrices
        ))
        for layer in mixture.layers
    )  # fmt: skip
    mixture = replace(mixture, layers=layers)
    all_experts = sum(matrix.weights for matrix in mixture.matrices if matrix.kind == "expert")
    assert len(experts) == len(mixture.layers)
    others = 2 * (mixture.parameters - all_experts - mixture.embedding)
    one = step_bytes(mixture, 1, 0, Precision.BFLOAT16)
    assert one == pytest.approx(others + 2 * all_experts * 2 / 8)
    two = step_bytes(mixture, 2, 10, Precision.BFLOAT16)
    cache = 2 * 10 * cache_bytes(mixture, Precision.BFLOAT16)
    assert two == pytest.approx(others + 2 * all_experts * (1 - 0.75**2) + cache)
