"""Folders of the cache that are written once, and checked byte by byte before they are used."""

import json
import logging
import shutil
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path

from isogloss.files import file_lock, file_sha256, keep_to_owner, make_cache_dir

logger = logging.getLogger(__name__)

DIGESTS = "digests.json"  # the sha256 of the other files of a folder
PARTIAL = ".partial"
HEX = "[0-9a-f]" * 32  # of a uuid, as a pattern of file names


def cached_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """A folder of the cache, which `write` fills under another name if it is not there.

    Processes that start together wait for each other. The folder appears by a rename, complete or
    not at all; it records the digests of its files, and is written again if they have changed.
    """
    if change(folder) is None:
        return folder
    make_cache_dir()
    with file_lock(folder.with_name(f"{folder.name}.lock")):
        problem = change(folder)
        if problem is None:
            return folder
        for left in folder.parent.glob(f"{folder.name}.{HEX}.*"):  # by a process that was killed
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        if folder.is_dir():
            logger.warning(f"{folder} is not used but written again: {problem}")
            shutil.rmtree(folder)
        partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}{PARTIAL}")
        try:
            write(partial)
            digests = {path.name: file_sha256(path) for path in sorted(partial.iterdir())}
            (partial / DIGESTS).write_text(json.dumps(digests, indent=1), encoding="utf-8")
            keep_to_owner(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def change(folder: Path) -> str | None:
    """How a folder of the cache is not as it was written, as a clause; None if it is.

    Its bytes are read once per process, and again if the size or time of a file changes.
    """
    if not folder.is_dir():
        return "it is not there"
    stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    return _change(folder, tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


@cache
def _change(folder: Path, files: tuple[tuple[str, int, int], ...]) -> str | None:
    try:
        recorded = json.loads((folder / DIGESTS).read_text("utf-8"))
        if recorded.keys() != {name for name, *_ in files} - {DIGESTS}:
            return "it has other files than were written"
        changed = [name for name in recorded if file_sha256(folder / name) != recorded[name]]
    except (OSError, ValueError, AttributeError):
        return "it has no record of its files"
    return f"{changed[0]} has changed" if changed else None
