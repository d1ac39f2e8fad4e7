"""The machine's own speed: matrix products in the shapes of the model's layers, and copies.

Each is the best of many.
"""

import platform
import time
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.contenders.job import Stopwatch, main
from benchmarks.flops import Shape, head_shape, layer_shapes, product_flops

TOKENS = 2048
HEAD_POSITIONS = 256
SECONDS, LEAST = 0.6, 5  # per shape: minimum duration and number of repetitions
COPIED_FLOATS = 1 << 24  # 64 MB: more than a cache holds, as dry runs measure it
PACKAGES = ("torch", "transformers", "peft", "accelerate", "lm_eval", "trl")


def _seconds(rows: int, shape: Shape, dtype: torch.dtype) -> float:
    left = torch.randn(rows, shape.inputs, dtype=dtype)
    weight = torch.randn(shape.outputs, shape.inputs, dtype=dtype)
    seconds: list[float] = []
    stop = time.perf_counter() + SECONDS
    while len(seconds) < LEAST or time.perf_counter() < stop:
        started = time.perf_counter()
        torch.nn.functional.linear(left, weight)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _copy_bytes_per_second() -> float:
    """Bytes read and written per second in copies."""
    source = torch.ones(COPIED_FLOATS)
    target = torch.empty_like(source)
    seconds: list[float] = []
    stop = time.perf_counter() + SECONDS
    while len(seconds) < LEAST or time.perf_counter() < stop:
        started = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - started)
    return 2 * source.nbytes / min(seconds)


@torch.inference_mode()
def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Operations per second of each shape, of a whole block and of the LM head; bytes of copies."""
    dtype = getattr(torch, job["dtype"])
    shapes = layer_shapes(job["config"])
    head = head_shape(job["config"])
    watch = Stopwatch()
    with watch:
        seconds = {shape: _seconds(TOKENS, shape, dtype) for shape in dict.fromkeys(shapes)}
        head_seconds = _seconds(HEAD_POSITIONS, head, dtype)
        copied = _copy_bytes_per_second()
    named = {
        f"[{TOKENS}, {shape.inputs}] x [{shape.inputs}, {shape.outputs}]": TOKENS
        * product_flops([shape])
        / took
        for shape, took in seconds.items()
    }
    named[f"[{HEAD_POSITIONS}, {head.inputs}] x [{head.inputs}, {head.outputs}]"] = (
        HEAD_POSITIONS * product_flops([head]) / head_seconds
    )
    return {
        **watch.spent,
        "body": TOKENS * product_flops(shapes) / sum(seconds[shape] for shape in shapes),
        "head": HEAD_POSITIONS * product_flops([head]) / head_seconds,
        "shapes": named,
        "copy_bytes_per_second": copied,
        "threads": torch.get_num_threads(),
        "dtype": job["dtype"],
        "capabilities": sorted(
            name for name, has in torch.cpu.get_capabilities().items() if has is True
        ),
        "versions": {"Python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    main(measure)
