"""Hashes that identify a result by what decides it, and evaluation data by its content."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from isogloss.tasks import Item


def fingerprint(**facts: Any) -> str:  # any JSON
    """Hexadecimal sha256 of everything that decides a result, whatever the order of the names."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def data_digest(items: Sequence[Item]) -> str:
    """Hexadecimal sha256 of every field of every item, in order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(asdict(item), ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
