"""Hashes that identify a result by what decides it, and evaluation data by its content."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from isogloss.tasks import Item


def fingerprint(**facts: Any) -> str:  # any JSON
    """Hexadecimal sha256 of everything that decides a result, whatever the order of the names."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def data_digest(items: Sequence[Item]) -> str:
    """Hexadecimal sha256 of every field of every item, in order."""
    digest = hashlib.sha256()
    encode = json.JSONEncoder(ensure_ascii=False).encode
    for item in items:
        # `asdict` copies each field: with 110,000 items of Belebele that takes seconds.
        digest.update(encode(vars(item)).encode() + b"\n")
    return digest.hexdigest()
