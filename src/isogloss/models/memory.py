"""Memory: how many tokens fit in a pass, and how the operating system's memory is used."""

import ctypes
import gc
import mmap
import sys
from typing import TYPE_CHECKING

import psutil
import torch

from isogloss.errors import ConfigError
from isogloss.formatting import size
from isogloss.models.batch_limits import (
    CPU_TRAINING_TOKENS,
    GPU_TOKENS_PER_BATCH,
    cpu_tokens,
)
from isogloss.models.dtypes import matrix_units
from isogloss.models.language_model import LanguageModel
from isogloss.models.lora import weights_per_rank

if TYPE_CHECKING:  # peft takes seconds to import
    from peft import LoraConfig


def token_budget(model: LanguageModel) -> int:
    """Tokens per scoring batch: what half of the free memory holds, at most a measured optimum.

    Larger batches than that optimum were no faster.
    """
    if model.device.type == "cuda":
        free, most = torch.cuda.mem_get_info(model.device)[0], GPU_TOKENS_PER_BATCH
    else:
        free, most = psutil.virtual_memory().available, cpu_tokens_per_batch(model.dtype)
    return int(max(min(free // 2 // _bytes_per_token(model), most), 1))


def cpu_tokens_per_batch(dtype: torch.dtype) -> int:
    """The measured optimum of tokens per scoring batch, for products in that dtype on this CPU."""
    return cpu_tokens(bfloat16=dtype == torch.bfloat16, matrix_units=matrix_units())


def training_token_budget(model: LanguageModel, checkpointing: bool = False) -> int:
    """Tokens per forward and backward pass: what a part of all memory holds, up to a limit.

    The backward pass needs the activations of all layers; with gradient `checkpointing`, those of
    one layer and the hidden states between layers. The total memory counts, not the free memory:
    the partition of a step into passes decides how sums of gradients are rounded, and a resumed
    training must arrive at the same weights. On a GPU the part is 70% of what the weights leave:
    with Qwen3-8B, whose estimate is 8.8 MB per token, uncompiled layers took 6.8 MB.
    """
    if model.device.type == "cuda":
        most = GPU_TOKENS_PER_BATCH
        memory = 0.7 * (total_memory(model) - _weight_bytes(model))
    else:
        memory, most = total_memory(model) / 4, CPU_TRAINING_TOKENS
    layers = model.network.config.get_text_config().num_hidden_layers
    activations = _layer_bytes(model) * (1 if checkpointing else layers)
    activations += 4 * _hidden_size(model) * layers + _logit_bytes(model)
    return int(max(min(memory // activations, most), 1))


def total_memory(model: LanguageModel) -> int:
    """Bytes of the memory, free or not, of the model's device."""
    if model.device.type == "cuda":
        return int(torch.cuda.mem_get_info(model.device)[1])
    return int(psutil.virtual_memory().total)


def require_memory_for_lora(model: LanguageModel, config: "LoraConfig") -> None:
    """ConfigError for a rank whose weights alone are too large; the kernel would end the process.

    Weights, gradients and the two moments of AdamW are in float32.
    """
    bytes_per_rank = 4 * 4 * weights_per_rank(model.network, config)
    memory = total_memory(model)
    if bytes_per_rank * config.r > memory:
        raise ConfigError(
            f"rank is {config.r}, whose weights, gradients and moments take "
            f"{size(bytes_per_rank * config.r)}, but there are {size(memory)} of memory; expected "
            f"at most {memory // bytes_per_rank}."
        )


def _weight_bytes(model: LanguageModel) -> int:
    """Bytes of the weights on the device that receives the tokens, which may be named "cuda"."""
    first = model.network.get_input_embeddings().weight.device
    weights = model.network.parameters()
    return sum(weight.nbytes for weight in weights if weight.device == first)


def _bytes_per_token(model: LanguageModel) -> int:
    """Bytes of one layer's activations, and of logits where a pass has those of all positions."""
    return _layer_bytes(model) + _logit_bytes(model)


def _layer_bytes(model: LanguageModel) -> int:
    """Bytes of one layer's activations: a few tensors of each of its widths.

    They are in float32, with bfloat16 on a GPU about half of them.
    """
    hidden_size = _hidden_size(model)
    inner = getattr(model.network.config.get_text_config(), "intermediate_size", None) or 0
    widest = max(inner if isinstance(inner, int) else max(inner), hidden_size)
    mixed = model.device.type == "cuda" and model.dtype != torch.float32
    return int((3 if mixed else 4) * (4 * widest + 8 * hidden_size))


def _logit_bytes(model: LanguageModel) -> int:
    """Bytes of a position's logits and their gradients, if all positions have some."""
    return 0 if model.head_apart else 3 * 4 * model.network.config.get_text_config().vocab_size


def _hidden_size(model: LanguageModel) -> int:
    """The width of embeddings; not every configuration names it `hidden_size`."""
    stated = getattr(model.network.config.get_text_config(), "hidden_size", None)
    return int(stated or model.network.get_input_embeddings().weight.shape[-1])


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the machine or of the GPU is exhausted."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks for the next layer instead of returning them to the kernel.

    Every forward pass allocates and frees the same megabytes; page faults on them took a quarter of
    the scoring time. Blocks freed earlier, for instance by building a tokenizer, are returned
    first. Does nothing with another C library.
    """
    if not (libc := _glibc()):
        return
    trim_threshold, mmap_threshold = -1, -3
    libc.malloc_trim(0)
    libc.mallopt(mmap_threshold, 1 << 30)
    libc.mallopt(trim_threshold, (1 << 31) - 1)


def return_freed_memory() -> None:
    """Return to the kernel and to the GPU what `keep_freed_memory` and torch keep.

    For the time between two models: a study of six models held 5 GB of the earlier ones otherwise.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is glibc."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if libc.mallopt and libc.malloc_trim else None
    except (OSError, AttributeError):
        return None


def page_out(tensor: torch.Tensor) -> None:
    """Tell the kernel that a memory-mapped tensor will not be read again.

    The mapping of a weights file lives until its last tensor is gone, and its pages with it.
    """
    if sys.platform == "linux":
        pageout, size = 21, mmap.PAGESIZE
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        first = -(-start // size) * size
        if tensor.device.type == "cpu" and end - first >= size:
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), pageout)
