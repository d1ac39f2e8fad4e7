"""Logging and progress bars that do not disturb each other, in terminals and in log files.

Modules log with `logging.getLogger(__name__)`. `configure` is for command lines: a program that
imports isogloss configures logging itself.
"""

import logging
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_silent = False


class _ProgressHandler(logging.Handler):
    """Writes records to stderr without breaking a progress bar that is on the screen."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        tqdm.write(self.format(record), file=sys.stderr)
        sys.stderr.flush()


def configure(level: int = logging.INFO) -> None:
    """Show isogloss's log records from `level` on: bare on a terminal, with the time in a file."""
    logger = logging.getLogger("isogloss")
    for handler in logger.handlers[:]:
        if isinstance(handler, _ProgressHandler):
            logger.removeHandler(handler)
    handler = _ProgressHandler()
    stamped = "%(message)s" if sys.stderr.isatty() else "%(asctime)s %(message)s"
    handler.setFormatter(logging.Formatter(stamped, "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(level)


def silence() -> None:
    """Show no progress and no records below errors: one process of a group speaks for all."""
    global _silent
    _silent = True
    logging.getLogger("isogloss").setLevel(logging.ERROR)


def progress_bar(
    items: Iterable[Any] | None, description: str, unit: str, **kwargs: Any
) -> "tqdm[Any]":
    """A progress bar; in a log file it writes a line every twenty seconds at most."""
    interval = 0.2 if sys.stderr.isatty() else 20.0
    return tqdm(
        items,
        desc=description,
        unit=unit,
        mininterval=interval,
        leave=False,
        disable=_silent,
        **kwargs,
    )
