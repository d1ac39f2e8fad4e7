"""Which file of a folder holds which language; none that is named for a language is overlooked."""

import logging
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from isogloss.errors import DataError
from isogloss.row_files import READERS, extension, stem

logger = logging.getLogger(__name__)


def only_file(task: str, expected: Path, candidates: Sequence[Path]) -> Path:
    """The single file of a language or split; DataError that names `expected` if there is none."""
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise DataError(f"{task} has no file {expected}.")
    listed = " and ".join(path.name for path in candidates)
    raise DataError(f"{expected.parent} has {listed} for {expected.stem}; expected one file.")


def files_by_name(
    folder: Path, names: Collection[str], extensions: Collection[str] = tuple(READERS)
) -> dict[str, list[Path]]:
    """The files with one of the extensions (in any case, perhaps with .gz), by name without them.

    Raises DataError for a file or folder that is named like one of `names` but has another
    extension, if that name has no other file; where it has, a warning names it.
    """
    by_name: dict[str, list[Path]] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if extension(path) in extensions:
            by_name.setdefault(stem(path), []).append(path)
        elif not path.name.startswith("."):
            others.append(path)
    for path in others:
        name = next(
            (name for name in names if re.match(rf"{re.escape(name)}(\.|$)", path.name)), ""
        )
        if name in by_name:
            logger.warning(f"{path} is not read; {by_name[name][0].name} is read instead")
        elif name:
            raise DataError(
                f"{path} cannot be read as data; expected {name} with the extension "
                f"{' or '.join(extensions)}."
            )
    return by_name
