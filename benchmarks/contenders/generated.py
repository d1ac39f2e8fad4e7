"""Generated text: when it is complete, and how texts are compared."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from isogloss.prompts.answer_parser import is_complete


def completes(rows: Sequence[dict[str, Any]]) -> list[Callable[[str], bool]]:
    """For each prompt, a function that tells whether a text contains its answer."""

    def complete(words: tuple[str, ...]) -> Callable[[str], bool]:
        return lambda text: is_complete(text, words)

    return [complete(tuple(row["words"])) for row in rows]


def digests(texts: Sequence[str]) -> list[str]:
    """A digest of each text: results are published, and texts quote the data."""
    return [hashlib.sha256(text.encode()).hexdigest()[:12] for text in texts]
