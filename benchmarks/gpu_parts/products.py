"""The machine's own speed: bfloat16 matrix products in the shapes of a model, and copies."""

from functools import cache
from typing import Any, NamedTuple

import torch

from benchmarks.flops import Shape, Speed, head_shape, layer_shapes, product_flops
from benchmarks.gpu_parts.measure import kernel_seconds
from benchmarks.gpu_parts.models import counted

ROWS, HEAD_ROWS, CUBE = 8192, 512, 8192
CPU_ROWS, CPU_CUBE = 256, 256
COPIED = 2 << 30  # bytes


class ProductSpeed(NamedTuple):
    """Operations per second on products of a model's shapes, and on a cube."""

    shapes: Speed
    cube: float


def _flops(rows: int, shape: Shape, device: torch.device) -> float:
    left = torch.randn(rows, shape.inputs, dtype=torch.bfloat16, device=device)
    weight = torch.randn(shape.outputs, shape.inputs, dtype=torch.bfloat16, device=device)
    seconds = kernel_seconds(device, lambda: torch.nn.functional.linear(left, weight))
    return rows * product_flops([shape]) / seconds


@cache
def _cube(device: torch.device) -> float:
    size = CUBE if device.type == "cuda" else CPU_CUBE
    return _flops(size, Shape(size, size), device)


@cache
def product_speed(name: str, device: torch.device) -> ProductSpeed:
    """Speed of a block's products together, of the head, and of a cube; measured once.

    A mixture counts as a dense layer as wide as the experts that a token uses, which is faster than
    products of separate experts can be.
    """
    rows = ROWS if device.type == "cuda" else CPU_ROWS
    shapes = layer_shapes(counted(name))
    speeds = {shape: _flops(rows, shape, device) for shape in dict.fromkeys(shapes)}
    seconds = sum(product_flops([shape]) / speeds[shape] for shape in shapes)
    head = _flops(HEAD_ROWS, head_shape(counted(name)), device)
    return ProductSpeed(Speed(product_flops(shapes) / seconds, head), _cube(device))


def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written per second by a copy within the device's memory."""
    size = COPIED if device.type == "cuda" else 1 << 24
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * size / kernel_seconds(device, lambda: target.copy_(source))


@torch.inference_mode()
def measure(names: list[str], device: torch.device) -> dict[str, Any]:
    """Speed of the cube, of each model's shapes, and of copies."""
    speeds = {name: product_speed(name, device) for name in names}
    return {
        "cube_tflops": _cube(device) / 1e12,
        "copy_gb_per_second": copy_bandwidth(device) / 1e9,
        "models": {
            name: {"body_tflops": speed.shapes.body / 1e12, "head_tflops": speed.shapes.head / 1e12}
            for name, speed in speeds.items()
        },
    }
