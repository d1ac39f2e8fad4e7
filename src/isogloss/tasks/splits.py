"""Splits by passage, for sets that come without: the same passages in every language.

Both the split of a passage and its place are read off the sha256 of its id, each off bits of its
own, so neither depends on what else a file holds.
"""

import hashlib

from isogloss.types import Split

SHARES: dict[Split, float] = {Split.TRAIN: 0.4, Split.DEV: 0.1, Split.TEST: 0.5}


def split_of(passage_id: str) -> Split:
    """The split that a passage is in, whatever the language: train 40%, dev 10%, test 50%."""
    drawn = int.from_bytes(_digest(passage_id)[-8:]) / 2**64
    for split, share in SHARES.items():
        if drawn < share:
            return split
        drawn -= share
    return Split.TEST


def place_of(passage_id: str) -> bytes:
    """What to sort passages by: any first few of the sorted are a fair sample of all."""
    return _digest(passage_id)


def _digest(passage_id: str) -> bytes:
    return hashlib.sha256(passage_id.encode()).digest()
