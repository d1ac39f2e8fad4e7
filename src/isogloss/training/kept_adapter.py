"""Adapters that an interrupted training left, checked before they are used."""

from pathlib import Path

import pandas as pd
import pyarrow
from safetensors import SafetensorError, safe_open

from isogloss.errors import DataError, ModelError
from isogloss.models.adapter_files import WEIGHTS, read_settings
from isogloss.training.contamination import read_record


def is_whole(folder: Path, predictions: str) -> bool:
    """Whether the folder of an adapter has all its files, whole; `predictions` is one of them."""
    try:
        pd.read_parquet(folder / predictions)
        with safe_open(folder / WEIGHTS, "pt"):
            return bool(read_settings(folder)) and read_record(folder) is not None
    except (ModelError, DataError, SafetensorError, pyarrow.ArrowException, OSError, ValueError):
        return False
