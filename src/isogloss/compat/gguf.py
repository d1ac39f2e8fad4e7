"""gguf: a file whose metadata is parsed once.

Relies on transformers taking `GGUFReader` from the module `gguf` at each reading. It reads a file
three times to load the embedded model and its tokenizer; sharing one reader halves the time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isogloss.compat import public_only


@contextmanager
def shared_reader() -> Iterator[None]:
    """Context in which all readings of one GGUF file share a reader."""
    import gguf

    if public_only():
        yield
        return
    original = gguf.GGUFReader
    readers: dict[str, gguf.GGUFReader] = {}

    def reader(path: str | Path) -> gguf.GGUFReader:
        if str(path) not in readers:
            readers[str(path)] = original(path)
        return readers[str(path)]

    vars(gguf)["GGUFReader"] = reader
    try:
        yield
    finally:
        vars(gguf)["GGUFReader"] = original
