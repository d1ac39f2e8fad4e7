"""Progress: lines that stay and bars that move, in terminals and in log files."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_silent = False


def silence() -> None:
    """Show nothing from now on: of several processes that compute together, one speaks."""
    global _silent
    _silent = True


def bar(items: Iterable[Any] | None, description: str, unit: str, **kwargs: Any) -> "tqdm[Any]":
    """A progress bar; in a log file it writes a line every twenty seconds at most."""
    pace = 0.2 if sys.stderr.isatty() else 20.0
    return tqdm(
        items, desc=description, unit=unit, mininterval=pace, leave=False, disable=_silent, **kwargs
    )


def announce(line: str) -> None:
    """Print a line without breaking a bar that is on the screen."""
    if not _silent:
        tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()
