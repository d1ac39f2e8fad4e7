"""Precision: which dtype matrix products and weights have, chosen or measured."""

import hashlib
import platform
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from isogloss.compat.torch_build import torch_build
from isogloss.errors import ModelError
from isogloss.files import cache_dir, keep

if TYPE_CHECKING:  # they take seconds to import
    import torch
    from transformers import BitsAndBytesConfig

AUTO = "auto"
NF4 = "nf4"
OLDEST_BITSANDBYTES = "0.46.1"  # that transformers takes, which takes seconds to ask
BFLOAT16_SPEEDUP = 1.3  # of bfloat16 products over float32 ones, below which a CPU uses float32
INSTRUCTIONS = ("avx512_bf16", "amx_bf16")  # for products in bfloat16, as Linux names them


def product_dtype(dtype: str) -> str:
    """The name of the dtype of matrix products: the named one (nf4: bfloat16), or the faster one.

    `auto` is bfloat16 on a GPU that supports it. On a CPU with AVX512_BF16 or AMX it is bfloat16 if
    its products are at least 1.3 times as fast as float32, measured in a tenth of a second:
    processors with the same flags have shown 2.3 times and 0.7 times. The cache keeps the result
    per processor, because fingerprints contain the dtype. Where torch can use no GPU and the cache
    has the result, torch is not imported.
    """
    if dtype != AUTO:
        return "float32" if dtype == "float32" else "bfloat16"
    if not torch_build().for_gpu and (known := _known()):
        return known
    import torch

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if not (torch.cpu.get_capabilities().get("avx512_bf16") or matrix_units()):
        return _kept("float32")
    if known := _known():
        return known
    speedup = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
    return _kept("bfloat16" if speedup >= BFLOAT16_SPEEDUP else "float32")


def resolve_dtype(dtype: str) -> "torch.dtype":
    """`product_dtype` as torch's own dtype."""
    import torch

    return torch.float32 if product_dtype(dtype) == "float32" else torch.bfloat16


def _known() -> str | None:
    """The dtype of `auto` on this processor that the cache has; None if it has none."""
    kept = _kept_file()
    name = kept.read_bytes() if kept.is_file() else b""
    return name.decode() if name in (b"float32", b"bfloat16") else None


def _kept(name: str) -> str:
    """Keep the dtype of `auto` on this processor in the cache; return it."""
    keep(_kept_file(), name.encode())
    return name


def _kept_file() -> Path:
    name, flags = processor()
    # A processor without the instructions is known by its flags too: machines may hide some.
    known_by = "" if not flags or bfloat16_instructions() else f" {flags}"
    machine = hashlib.sha256(f"{torch_build().version} {name}{known_by}".encode()).hexdigest()[:12]
    return cache_dir() / f"dtype-{machine}.txt"


def bfloat16_instructions() -> tuple[str, ...]:
    """The instructions of this processor for products in bfloat16.

    As Linux names them; as torch does where the system does not state any.
    """
    _, flags = processor()
    if not flags:
        import torch

        has = torch.cpu.get_capabilities()
        return tuple(name for name in INSTRUCTIONS if has.get(name))
    return tuple(name for name in INSTRUCTIONS if name in flags.split())


@cache
def matrix_units() -> bool:
    """Whether this processor has matrix units for bfloat16 (AMX)."""
    import torch

    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def weights_dtype(dtype: str, device: "torch.device") -> "torch.dtype":
    """The dtype in which weights are loaded for the parameter `dtype`.

    float32 on a CPU, where autocast casts them for bfloat16 products; on a GPU the dtype of the
    products, to save memory. With nf4 it is the dtype of the weights that are not quantised.
    """
    import torch

    if dtype != NF4 and device.type == "cpu":
        return torch.float32
    return resolve_dtype(dtype)


def bitsandbytes_installed() -> bool:
    """Whether weights can be quantised (the extra `qlora`)."""
    try:
        installed = version("bitsandbytes")
    except PackageNotFoundError:
        return False
    return Version(installed) >= Version(OLDEST_BITSANDBYTES)


def nf4_config() -> "BitsAndBytesConfig":
    """transformers' configuration of 4-bit NormalFloat with double quantisation (QLoRA).

    Source: Dettmers et al., arXiv:2305.14314. Raises ModelError without bitsandbytes.
    """
    import torch
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


def processor() -> tuple[str, str]:
    """The model name of the processor and its flags, if the system states them."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor(), ""
    name = next((line for line in lines if line.startswith("model name")), platform.processor())
    return name, next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")


def _product_seconds(dtype: "torch.dtype") -> float:
    """The shortest of six timings of a matrix product."""
    import torch

    left_MK, right_NK = torch.ones(2048, 640, dtype=dtype), torch.ones(2048, 640, dtype=dtype)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        torch.nn.functional.linear(left_MK, right_NK)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
