"""Ways in which a file is damaged: cut off at several places, empty, or other bytes."""

from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], object]


def cut(path: Path, share: float) -> None:
    """Keep the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


DAMAGES: dict[str, Damage] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut after a tenth": lambda path: cut(path, 0.1),
    "cut in the middle": lambda path: cut(path, 0.5),
    "without its last bytes": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "other bytes": lambda path: path.write_bytes(bytes(range(1, 256)) * 8),
    "JSON of another kind": lambda path: path.write_bytes(b"[1, 2]"),
}
