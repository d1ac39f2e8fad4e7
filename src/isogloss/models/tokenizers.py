"""Tokenizers and their chat templates, loaded from the files of a model without its weights."""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import cast

from isogloss.compat.interfaces import Tokenizer
from isogloss.errors import ModelError
from isogloss.files import file_sha256
from isogloss.models.locate import ModelLocation, decisive_files
from isogloss.models.model_files import read_json, reason_of

VOCABULARIES = (
    ".json",
    ".jinja",
    ".model",
    ".txt",
    ".tiktoken",
    ".spm",
    ".bpe",
    ".codes",
    ".vocab",
)
# transformers' tokenizers read their own configuration and files of templates, but not these.
_NO_TEMPLATE = (
    "the chat_template in {} must be text, or a list of templates, each with name and template."
)
PROCESSOR_FILES = ("chat_template.json", "processor_config.json")


def load_tokenizer(location: ModelLocation) -> Tokenizer:
    """Load the tokenizer of a located model, or with its processor's chat template.

    Raises ModelError if it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(location.folder, local_files_only=True)
        if not tokenizer.chat_template:
            owner = f"model {location.name!r}"
            templates = [json_template(location.folder / name, owner) for name in PROCESSOR_FILES]
            tokenizer.chat_template = next(filter(None, templates), None)
    except ModelError:
        raise
    except Exception as error:  # the tokenizers library raises Exception itself
        raise ModelError(
            f"the tokenizer of model {location.name!r} cannot be loaded ({reason_of(error)})."
        ) from error
    return cast(Tokenizer, tokenizer)


def shared_tokenizer(location: ModelLocation) -> Tokenizer:
    """Return what `load_tokenizer` does, one object for models that have the same tokenizer.

    A large vocabulary takes seconds to load. The tokenizer must not be changed.
    """
    return _load_once(_Files(tuple(_contents(location.folder)), location))


def tokenizer_digest(folder: Path) -> str:
    """Hexadecimal sha256 of the files that may decide the tokenizer in a folder."""
    return hashlib.sha256("\n".join(_contents(folder)).encode()).hexdigest()


def _contents(folder: Path) -> list[str]:
    """Name and sha256 of each file that may decide the tokenizer in a folder."""
    return sorted(
        f"{name}:{file_sha256(path)}"
        for name, path in decisive_files(folder)
        if path.suffix in VOCABULARIES or path.name.startswith("tokenizer")
    )


@dataclass(frozen=True)
class _Files:
    """The files of a tokenizer, by name and content, and one of the places that have them."""

    contents: tuple[str, ...]
    location: ModelLocation = field(compare=False)


@lru_cache(maxsize=2)
def _load_once(files: _Files) -> Tokenizer:
    return load_tokenizer(files.location)


def has_chat_template(location: ModelLocation) -> bool:
    """Whether the files of a model contain a chat template. Raises ModelError for damaged JSON."""
    folder = location.folder
    if (folder / "chat_template.jinja").is_file():
        return True
    if any((folder / "additional_chat_templates").glob("*.jinja")):
        return True
    names = ("tokenizer_config.json", *PROCESSOR_FILES)
    return any(json_template(folder / name, f"model {location.name!r}") for name in names)


def json_template(path: Path, owner: str) -> str | dict[str, str] | None:
    """Return the chat template in a JSON file, or several by name; None if there is none.

    Raises ModelError for a file that is not JSON; `owner` is whose file it is.
    """
    if not path.is_file():
        return None
    content = read_json(path, owner)
    template = content.get("chat_template") if isinstance(content, dict) else None
    try:
        if isinstance(template, list):
            return {str(entry["name"]): str(entry["template"]) for entry in template}
        if isinstance(template, str | dict | None):
            return template or None
    except (TypeError, LookupError) as error:
        raise ModelError(f"{owner}: {_NO_TEMPLATE.format(path.name)}") from error
    raise ModelError(f"{owner}: {_NO_TEMPLATE.format(path.name)}")
