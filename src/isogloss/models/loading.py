"""Models: load one, in the precision and on the devices asked for, and switch its adapters."""

import ctypes
import hashlib
import mmap
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import torch

from isogloss.distributed import processes
from isogloss.distributed.sharding import shard
from isogloss.errors import ModelError
from isogloss.files import write_whole
from isogloss.models.locate import ModelLocation, cache_dir

CPU_TOKENS_PER_BATCH = 1024
GPU_TOKENS_PER_BATCH = 32768
CPU_TRAINING_TOKENS = 2048
NF4 = "nf4"
PAGED = 4096  # rows of a weight that are cast at a time


@dataclass
class LanguageModel:
    """A causal language model in memory, its tokenizer, and the adapters loaded beside it.

    `network` is transformers' model; once an adapter is attached, LoRA layers sit inside it and
    `peft_model` wraps it. `dtype` is that of matrix products (autocast). `device` is where tokens
    go in; with a device map layers may be elsewhere.
    """

    location: ModelLocation
    tokenizer: Any
    network: Any
    device: torch.device
    dtype: torch.dtype
    peft_model: Any = None
    adapters: dict[str, str] = field(default_factory=dict)  # digest -> peft's adapter name
    active: str | None = None  # digest of the adapter in use
    shares: bool | None = None  # see packing.can_share
    splits: bool | None = None  # see head.can_split

    @property
    def dtype_name(self) -> str:
        """The parameter `dtype` with which this model is loaded again."""
        return NF4 if self.quantised else str(self.dtype).removeprefix("torch.")

    @property
    def quantised(self) -> bool:
        """Whether the weights of linear layers have 4 bits."""
        return bool(getattr(self.network, "is_loaded_in_4bit", False))

    @property
    def offloaded(self) -> bool:
        """Whether layers wait in CPU memory or on disk until they are needed on `device`."""
        return any(weight.is_meta for weight in self.network.parameters())

    def autocast(self) -> Any:
        """Context in which matrix products run in `dtype`."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @cached_property
    def head_weight(self) -> torch.Tensor:
        """The weight of the head in `dtype`. Cast once, where every pass would do so again: the
        head of a small model is larger than all the rest.
        """
        weight: torch.Tensor = self.network.get_output_embeddings().weight
        with torch.inference_mode(False):  # first wanted by scoring, later by training
            return weight.detach().to(self.dtype)

    @contextmanager
    def using(self, digest: str | None) -> Iterator[None]:
        """Context in which the adapter of that digest is active; none of them for None."""
        before, self.active = self.active, digest
        try:
            if digest is not None:
                self.peft_model.set_adapter(self.adapters[digest])
                yield
            elif self.peft_model is None:
                yield
            else:
                with self.peft_model.disable_adapter():
                    yield
        finally:
            self.active = before


def load(
    location: ModelLocation,
    dtype: str = "auto",
    attention: str = "auto",
    device_map: str | dict[str, Any] = "none",
) -> LanguageModel:
    """Load a located model: on the GPU where there is one, in evaluation mode.

    `dtype` is that of matrix products: auto, float32 or bfloat16, see `resolve_dtype`; or nf4 for
    weights of linear layers in 4-bit NormalFloat with double quantisation (QLoRA, Dettmers et al.,
    arXiv:2305.14314), whose products are in bfloat16. `attention` is transformers' implementation,
    auto its own choice. `device_map` is none for one device, auto to have accelerate spread layers
    over all GPUs and CPU memory, or such a map. Raises ModelError if that cannot be done here.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    products = resolve_dtype(dtype)
    if processes.sharded() and (dtype == NF4 or device_map != "none"):
        raise ModelError(
            "the launcher spreads the weights over its processes, and neither dtype 'nf4' nor a "
            "device_map goes with that."
        )
    options: dict[str, Any] = {"dtype": weights_dtype(dtype, device)}
    if attention != "auto":
        _check_attention(attention, products)
        options["attn_implementation"] = attention
    if device_map != "none":
        options["device_map"] = device_map
    if dtype == NF4:
        options["quantization_config"] = _nf4()
    try:
        tokenizer = AutoTokenizer.from_pretrained(location.folder, local_files_only=True)
        network = AutoModelForCausalLM.from_pretrained(
            location.folder, local_files_only=True, **options
        )
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"model {location.name!r} cannot be loaded ({reason}).") from error
    network.eval()
    network.requires_grad_(False)
    if processes.sharded():
        shard(network)
    elif device_map != "none":
        places = getattr(network, "hf_device_map", {}).values()
        device = next((torch.device(at) for at in places if at not in ("cpu", "disk")), device)
    elif dtype != NF4:  # which is where it belongs when it is loaded
        network.to(device)
    if dtype == NF4:
        _check_quantised(network, location)
    if not processes.sharded():  # weights that are spread have one dtype
        _cast_matrices(network, products)
    keep_freed_memory()
    return LanguageModel(location, tokenizer, network, device, products)


def _cast_matrices(network: Any, dtype: torch.dtype) -> None:
    """Cast matrices and embeddings to the dtype of products, which autocast would do at every pass.

    Norms stay as they are, and so does the sum that layers add to, which begins with embeddings.
    """
    decoder = network.get_decoder()
    embedding, head = decoder.get_input_embeddings(), network.get_output_embeddings()
    wide = embedding.weight.dtype
    if wide == dtype:
        return
    for weight in {*decoder.parameters(), *head.parameters()}:
        if weight.is_floating_point() and not weight.is_meta:
            cast = torch.empty_like(weight, dtype=dtype if weight.dim() > 1 else wide)
            for rows, loaded in zip(
                torch.split(cast, PAGED), torch.split(weight.data, PAGED), strict=True
            ):
                rows.copy_(loaded)
                _page_out(loaded)
            weight.data = cast
    embedding.register_forward_hook(lambda module, args, found: found.to(wide))


def _page_out(tensor: torch.Tensor) -> None:
    """Tell the kernel that a tensor will not be read again: its pages, which belong to a file that
    is mapped whole until the last tensor of it is gone, need not be in memory.
    """
    if sys.platform == "linux":
        pageout, size = 21, mmap.PAGESIZE
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        first = -(-start // size) * size
        if tensor.device.type == "cpu" and end - first >= size:
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), pageout)


def _check_quantised(network: Any, location: ModelLocation) -> None:
    """Keep off what bitsandbytes 0.50 does wrong on a CPU; ModelError if it would show."""
    from bitsandbytes.nn import Linear4bit

    for module in network.modules():
        if isinstance(module, Linear4bit) and module.weight.device.type == "cpu":
            # With AVX512_BF16 it would repack weights at the first pass without gradients, and from
            # then on let no gradient through them.
            module.support_avx512bf16_for_cpu = False
            if module.in_features % 64:
                raise ModelError(
                    f"dtype is 'nf4', but model {location.name!r} has layers of "
                    f"{module.in_features} inputs; on a CPU bitsandbytes needs a multiple of 64."
                )


def weights_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype in which weights are loaded for the parameter `dtype`.

    float32 on a CPU, where autocast makes bfloat16 products of them; on a GPU that of the products,
    to save memory. With nf4 it is that of the weights which are not quantised.
    """
    if dtype != NF4 and device.type == "cpu":
        return torch.float32
    return resolve_dtype(dtype)


def _check_attention(attention: str, products: torch.dtype) -> None:
    """ModelError if flash attention is asked for and is not to be had."""
    from transformers.utils import is_flash_attn_2_available

    if attention != "flash_attention_2":
        return
    if not is_flash_attn_2_available():
        raise ModelError(
            "attention is 'flash_attention_2', but the package flash-attn is not installed or "
            "there is no GPU for it; expected auto, eager or sdpa."
        )
    if products == torch.float32:
        raise ModelError("attention is 'flash_attention_2', which needs dtype bfloat16 or nf4.")


def bitsandbytes_installed() -> bool:
    """Whether weights can be quantised: the extra `qlora`."""
    from transformers.utils import is_bitsandbytes_available

    return bool(is_bitsandbytes_available())


def _nf4() -> Any:
    """transformers' configuration of 4-bit NormalFloat; ModelError without bitsandbytes."""
    from transformers import BitsAndBytesConfig

    if not bitsandbytes_installed():
        raise ModelError(
            "dtype 'nf4' needs bitsandbytes, which is not installed; "
            "`pip install bitsandbytes` brings it."
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def keep_freed_memory() -> None:
    """Have glibc keep large blocks for the next layer instead of handing them back to the kernel.

    Each forward pass allocates and frees the same megabytes again; faulting them in anew took a
    quarter of the scoring time. What was freed before, as by the making of a tokenizer, is handed
    back. Does nothing where the C library is another.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt, malloc_trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold = -1, -3
    malloc_trim(0)
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)


def resolve_dtype(dtype: str) -> torch.dtype:
    """The dtype of matrix products: the one named (nf4: bfloat16), or for `auto` the faster one.

    bfloat16 on a GPU that has it. On a CPU that has AVX512_BF16 or AMX, bfloat16 if it multiplies
    at least 1.3 times as fast as float32, by a trial of a tenth of a second: with the same flags,
    processors have been seen at 2.3 times and at 0.7 times. What came out is kept in the cache for
    this processor, since a run is found again, and gone on with, by its dtype too.
    """
    if dtype != "auto":
        return torch.float32 if dtype == "float32" else torch.bfloat16
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    capabilities = torch.cpu.get_capabilities()
    if not (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")):
        return torch.float32
    machine = hashlib.sha256(f"{torch.__version__} {_processor()}".encode()).hexdigest()[:12]
    kept = cache_dir() / f"dtype-{machine}.txt"
    if kept.is_file():
        return resolve_dtype(kept.read_text("utf-8"))
    faster = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
    chosen = "bfloat16" if faster >= 1.3 else "float32"
    cache_dir().mkdir(parents=True, exist_ok=True)
    write_whole(kept, chosen.encode())
    return resolve_dtype(chosen)


def _processor() -> str:
    """Name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())


def _product_seconds(dtype: torch.dtype) -> float:
    left_MK, right_NK = torch.ones(2048, 640, dtype=dtype), torch.ones(2048, 640, dtype=dtype)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        torch.nn.functional.linear(left_MK, right_NK)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def token_budget(model: LanguageModel) -> int:
    """Tokens of a batch to be scored: as many as half of the free memory holds, up to a number
    from which on larger batches were no faster.

    A token is counted with the widest tensors of a layer, a few of each, in float32.
    """
    if model.device.type == "cuda":
        free, most = torch.cuda.mem_get_info(model.device)[0], GPU_TOKENS_PER_BATCH
    else:
        free, most = psutil.virtual_memory().available, CPU_TOKENS_PER_BATCH
    return int(max(min(free // 2 // _bytes_a_token(model), most), 1))


def training_token_budget(model: LanguageModel, checkpointing: bool = False) -> int:
    """Tokens of a forward and backward pass: what a quarter of all memory holds, up to a number.

    Activations of all layers are kept for the backward pass; with gradient `checkpointing` those of
    one, and what goes from layer to layer. It is all memory, not what is free of it, that counts:
    sums of gradients are rounded by the parts they are made of, and a training that is gone on with
    has to come to the same weights.
    """
    if model.device.type == "cuda":
        memory, most = torch.cuda.mem_get_info(model.device)[1], GPU_TOKENS_PER_BATCH
    else:
        memory, most = psutil.virtual_memory().total, CPU_TRAINING_TOKENS
    config = model.network.config.get_text_config()
    layers = config.num_hidden_layers
    kept = _bytes_a_token(model) * (1 if checkpointing else layers)
    kept += 4 * config.hidden_size * layers
    return int(max(min(memory // 4 // kept, most), 1))


def _bytes_a_token(model: LanguageModel) -> int:
    """Bytes of a layer's activations."""
    config = model.network.config.get_text_config()
    widest = max(getattr(config, "intermediate_size", 0), config.hidden_size)
    return int(4 * (4 * widest + 8 * config.hidden_size))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, the machine's or the GPU's, is used up."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
