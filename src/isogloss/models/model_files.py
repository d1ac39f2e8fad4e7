"""Files of a model that are read here, before transformers reads them: they may be damaged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isogloss.errors import ModelError
from isogloss.formatting import shortened

Settings = Mapping[str, Any]  # JSON

LARGEST_JSON = 100_000_000  # bytes; the largest tokenizer.json has about 40 million
LONGEST_REASON = 300  # characters
# Sizes that every architecture which has them needs to be positive whole numbers.
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "vocab_size",
)


def read_json(path: Path, owner: str) -> object:
    """The content of a JSON file. Raises ModelError, with `owner` and the file's name."""
    try:
        size = path.stat().st_size
        if size > LARGEST_JSON:
            raise ModelError(f"{owner}: {path.name} has {size:,} bytes, too many to be read.")
        content: object = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ModelError(f"{owner}: {path.name} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{owner}: {path.name} is not valid JSON ({reason_of(error)}).") from error
    return content


def read_settings(path: Path, owner: str) -> Settings:
    """The mapping in a JSON file. Raises ModelError, also for anything that is no mapping."""
    content = read_json(path, owner)
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ModelError(f"{owner}: {path.name} must hold a mapping but holds a {kind}.")
    return content


def model_settings(folder: Path, owner: str) -> Settings:
    """The content of config.json. Raises ModelError for sizes that no model can have."""
    settings = read_settings(folder / "config.json", owner)
    text = settings.get("text_config")
    for part in (settings, text if isinstance(text, dict) else {}):
        for name in SIZES:
            size = part.get(name)
            if size is None or (name == "intermediate_size" and isinstance(size, list)):
                continue
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ModelError(
                    f"{owner} has a config.json with {name} {shortened(repr(size))}; expected a "
                    "positive whole number."
                )
    return settings


def reason_of(error: BaseException) -> str:
    """The first line of an error's text, not too long; its type if it has none."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    named = isinstance(error, OSError | ValueError | ImportError)
    return shortened(lines[0] if named else f"{type(error).__name__}: {lines[0]}", LONGEST_REASON)
