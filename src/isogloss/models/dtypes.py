"""Precision: which dtype matrix products and weights have, chosen or measured."""

import hashlib
import platform
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from isogloss.errors import ModelError
from isogloss.files import cache_dir, make_cache_dir, write_whole

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

NF4 = "nf4"
BFLOAT16_SPEEDUP = 1.3  # of bfloat16 products over float32 ones, below which a CPU uses float32


def resolve_dtype(dtype: str) -> torch.dtype:
    """The dtype of matrix products: the named one (nf4: bfloat16), or the faster one for `auto`.

    `auto` is bfloat16 on a GPU that supports it. On a CPU with AVX512_BF16 or AMX it is bfloat16 if
    its products are at least 1.3 times as fast as float32, measured in a tenth of a second:
    processors with the same flags have shown 2.3 times and 0.7 times. The cache keeps the result
    per processor, because fingerprints contain the dtype.
    """
    if dtype != "auto":
        return torch.float32 if dtype == "float32" else torch.bfloat16
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if not (torch.cpu.get_capabilities().get("avx512_bf16") or matrix_units()):
        return torch.float32
    machine = hashlib.sha256(f"{torch.__version__} {_processor()}".encode()).hexdigest()[:12]
    cached = cache_dir() / f"dtype-{machine}.txt"
    if cached.is_file() and (measured := cached.read_bytes()) in (b"float32", b"bfloat16"):
        return resolve_dtype(measured.decode())
    speedup = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
    faster = "bfloat16" if speedup >= BFLOAT16_SPEEDUP else "float32"
    make_cache_dir()
    write_whole(cached, faster.encode())
    return resolve_dtype(faster)


@cache
def matrix_units() -> bool:
    """Whether this processor has matrix units for bfloat16 (AMX)."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def weights_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype in which weights are loaded for the parameter `dtype`.

    float32 on a CPU, where autocast casts them for bfloat16 products; on a GPU the dtype of the
    products, to save memory. With nf4 it is the dtype of the weights that are not quantised.
    """
    if dtype != NF4 and device.type == "cpu":
        return torch.float32
    return resolve_dtype(dtype)


def bitsandbytes_installed() -> bool:
    """Whether weights can be quantised (the extra `qlora`)."""
    from transformers.utils.import_utils import is_bitsandbytes_available

    return bool(is_bitsandbytes_available())


def nf4_config() -> "BitsAndBytesConfig":
    """transformers' configuration of 4-bit NormalFloat with double quantisation (QLoRA).

    Source: Dettmers et al., arXiv:2305.14314. Raises ModelError without bitsandbytes.
    """
    from transformers import BitsAndBytesConfig

    if not bitsandbytes_installed():
        raise ModelError(
            "dtype 'nf4' needs bitsandbytes, which is not installed; "
            "install it with `pip install bitsandbytes`."
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _processor() -> str:
    """The model name of the processor, if the system states it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())


def _product_seconds(dtype: torch.dtype) -> float:
    """The shortest of six timings of a matrix product."""
    left_MK, right_NK = torch.ones(2048, 640, dtype=dtype), torch.ones(2048, 640, dtype=dtype)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        torch.nn.functional.linear(left_MK, right_NK)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
