"""Shapes: parameters counted from matrices, and the usual shape of a number of parameters."""

import pytest

from isogloss.costs.shape import Layer, Matrix, MatrixKind, ModelShape, assumed_shape


def test_parameters_active_parameters_and_lora_of_a_mixture() -> None:
    layer = Layer(
        (
            Matrix(MatrixKind.ATTENTION, 8, 8),
            Matrix(MatrixKind.ROUTER, 8, 4),
            Matrix(MatrixKind.EXPERT, 8, 6, copies=4, used=2),
        ),
        other=10,
    )
    shape = ModelShape((layer,) * 3, hidden=8, vocabulary=100, tied=True, other=5)
    assert shape.parameters == 3 * (64 + 32 + 4 * 48 + 10) + 800 + 5
    assert shape.active_parameters == shape.parameters - 3 * 2 * 48
    assert layer.operations == 2 * (64 + 32 + 2 * 48)
    assert shape.lora_weights(rank=2) == 3 * 2 * (8 + 8)
    assert shape.lora_weights(rank=2, experts=True) == 3 * (2 * 16 + 4 * 2 * 14)


@pytest.mark.parametrize(
    ("parameters", "active"), [(8.03e9, None), (4e9, None), (671e9, 37e9), (30.5e9, 3.3e9)]
)
def test_an_assumed_shape_has_the_parameters(parameters: float, active: float | None) -> None:
    shape = assumed_shape(parameters, active)
    assert shape.parameters == pytest.approx(parameters, rel=1e-3)
    assert shape.active_parameters == pytest.approx(active or parameters, rel=1e-3)
    if parameters == 8.03e9:  # Llama 3.1 8B has 32 layers of 4,096
        assert len(shape.layers) == pytest.approx(32, abs=3)
        assert shape.hidden == pytest.approx(4096, rel=0.1)
