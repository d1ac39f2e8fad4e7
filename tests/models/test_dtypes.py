"""Dtypes of products and weights, on CPUs and GPUs."""

from pathlib import Path

import pytest
import torch
from transformers.utils import import_utils

from isogloss.compat.torch_build import TorchBuild
from isogloss.models import dtypes
from isogloss.models.dtypes import (
    OLDEST_BITSANDBYTES,
    bfloat16_instructions,
    bitsandbytes_installed,
    product_dtype,
    resolve_dtype,
    weights_dtype,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    monkeypatch.setattr(dtypes, "torch_build", lambda: TorchBuild("2.0", for_gpu=True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bfloat16)


@pytest.mark.parametrize(
    ("bfloat16", "dtype", "products", "weights"),
    [
        (True, "auto", torch.bfloat16, torch.bfloat16),
        (True, "float32", torch.float32, torch.float32),
        (True, "nf4", torch.bfloat16, torch.bfloat16),
        (False, "auto", torch.float32, torch.float32),
    ],
)
def test_on_a_gpu_weights_have_the_dtype_of_products(
    bfloat16: bool,
    dtype: str,
    products: torch.dtype,
    weights: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_gpu(monkeypatch, bfloat16)
    assert resolve_dtype(dtype) == products
    assert weights_dtype(dtype, CUDA) == weights


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_cpu_weights_are_float32(dtype: str) -> None:
    assert weights_dtype(dtype, CPU) == torch.float32


def test_the_faster_dtype_is_measured_once_per_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    seconds = {torch.float32: 2.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(dtypes, "_product_seconds", seconds.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_dtype("auto") == torch.bfloat16
    seconds[torch.bfloat16] = 3.0  # a busy moment
    assert resolve_dtype("auto") == torch.bfloat16
    next(tmp_path.glob("dtype-*.txt")).unlink()
    assert resolve_dtype("auto") == torch.float32


def test_a_processor_without_the_instructions_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path))
    monkeypatch.setattr(dtypes, "torch_build", lambda: TorchBuild("2.0", for_gpu=False))
    monkeypatch.setattr(dtypes, "processor", lambda: ("model name: A", "avx2 avx512f"))
    monkeypatch.setattr(dtypes, "matrix_units", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert product_dtype("auto") == "float32"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: pytest.fail("torch is asked"))
    assert product_dtype("auto") == "float32"
    # One of the same name that has them is another processor.
    monkeypatch.setattr(dtypes, "processor", lambda: ("model name: A", "avx2 avx512_bf16"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    seconds = {torch.float32: 2.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(dtypes, "_product_seconds", seconds.__getitem__)
    assert product_dtype("auto") == "bfloat16"
    assert bfloat16_instructions() == ("avx512_bf16",)


def test_bitsandbytes_is_what_transformers_takes() -> None:
    assert OLDEST_BITSANDBYTES == import_utils.BITSANDBYTES_MIN_VERSION
    assert bitsandbytes_installed() == import_utils.is_bitsandbytes_available()
