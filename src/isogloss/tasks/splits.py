"""Splits by passage for sets that have none of their own: the same passages in every language.

Both the split of a passage and its position are taken from the sha256 of its id, each from
different bits, so neither depends on the other contents of a file.
"""

import hashlib

from isogloss.types import Split

SHARES: dict[Split, float] = {Split.TRAIN: 0.4, Split.DEV: 0.1, Split.TEST: 0.5}
TRAIN_SHARE = 0.8  # of the passages of a set that has test passages of its own


def split_of(passage_id: str) -> Split:
    """The split of a passage in all languages: 40% train, 10% dev, 50% test."""
    uniform = int.from_bytes(_digest(passage_id)[-8:]) / 2**64
    for split, share in SHARES.items():
        if uniform < share:
            return split
        uniform -= share
    return Split.TEST


def training_split_of(passage_id: str) -> Split:
    """The split in all languages of a passage that is not a test passage: 80% train, 20% dev."""
    uniform = int.from_bytes(_digest(passage_id)[-8:]) / 2**64
    return Split.TRAIN if uniform < TRAIN_SHARE else Split.DEV


def sort_key(passage_id: str) -> bytes:
    """Key that sorts passages in a fixed random order: any first few are a fair sample."""
    return _digest(passage_id)


def _digest(passage_id: str) -> bytes:
    return hashlib.sha256(passage_id.encode()).digest()
