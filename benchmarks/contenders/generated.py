"""Generated text: when it is complete, and what is compared of it."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from isogloss.prompts.answer_parser import is_complete


def completes(rows: Sequence[dict[str, Any]]) -> list[Callable[[str], bool]]:
    """For each prompt, whether a text after it has come to its answer."""

    def complete(words: tuple[str, ...]) -> Callable[[str], bool]:
        return lambda text: is_complete(text, words)

    return [complete(tuple(row["words"])) for row in rows]


def digests(texts: Sequence[str]) -> list[str]:
    """A short name for each text: results are published, texts quote the data."""
    return [hashlib.sha256(text.encode()).hexdigest()[:12] for text in texts]
