"""Logging and progress: bars on a terminal, plain lines with the time in a log file.

Modules log with `logging.getLogger(__name__)`. `configure` is for command lines; a program that
imports isogloss configures logging itself.
"""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn

from tqdm import tqdm

from isogloss.formatting import without_password

logger = logging.getLogger(__name__)

LOG_INTERVAL = 20.0  # seconds between lines of progress in a log file
LONGEST_NAME = 40  # characters before a bar, of which 80 columns leave at least ten
BAR = "{desc} |{bar}| {n_fmt}/{total_fmt}, {remaining} left{postfix}"
TERMINAL_FORMAT = "%(message)s"
FILE_FORMAT = "%(asctime)s %(levelname)s %(message)s"
VERBOSE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


# What the bars of a context belong to, in few characters.
_owner: ContextVar[str | None] = ContextVar("owner", default=None)


class _StderrHandler(logging.Handler):
    """Writes to whatever sys.stderr is at the time, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, without passwords."""
        line = without_password(self.format(record))
        if sys.stderr.isatty():
            tqdm.write(line, file=sys.stderr)
        else:  # progress lines are records too: tqdm.write would wait for tqdm's lock for ever
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class _LogLines:
    """A file for tqdm that logs what tqdm would draw."""

    def write(self, drawn: str) -> None:
        """Log a line; cursor movements and blanks are dropped."""
        line = re.sub(r"\x1b\[\w|[\r\n]", "", drawn).strip()
        if line:
            logger.info(line)

    def flush(self) -> None:
        """Do nothing: log handlers flush."""


def configure(level: int = logging.INFO) -> None:
    """Show isogloss's log records from `level` on, on stderr.

    A terminal shows bare messages; a file has the time and level of each; DEBUG adds the module.
    """
    root = logging.getLogger("isogloss")
    for handler in root.handlers[:]:
        if isinstance(handler, _StderrHandler):
            root.removeHandler(handler)
    style = TERMINAL_FORMAT if sys.stderr.isatty() else FILE_FORMAT
    if level <= logging.DEBUG:
        style = VERBOSE_FORMAT
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter(style, "%Y-%m-%d %H:%M:%S"))
    root.addHandler(handler)
    root.setLevel(level)


def silence() -> None:
    """Show errors only, and no progress: in a group of processes the leader alone reports."""
    logging.getLogger("isogloss").setLevel(logging.ERROR)


@contextmanager
def bars_of(owner: str) -> Iterator[None]:
    """Context whose bars on a terminal begin with a short name in place of their descriptions."""
    token = _owner.set(owner)
    try:
        yield
    finally:
        _owner.reset(token)


def tell(progress: "tqdm[NoReturn]", *, bar: str, line: str) -> None:
    """Add some words to a bar on a terminal, or others, which may be longer, to lines of a log."""
    progress.set_postfix_str(bar if sys.stderr.isatty() else line, refresh=False)


def progress_bar(
    description: str, unit: str, total: int, initial: int = 0, part: str = ""
) -> "tqdm[NoReturn]":
    """Progress towards `total` units, `initial` of which are done.

    A terminal shows a bar, by a short name within `bars_of`: the `part` tells one bar there from
    another. Elsewhere a line with elapsed and remaining time is logged at most every
    LOG_INTERVAL seconds. Hidden if isogloss's logger is set above INFO.
    """
    hidden = logging.getLogger("isogloss").level > logging.INFO
    if sys.stderr.isatty():
        owner = _owner.get()
        return tqdm(
            desc=(f"{owner} {part}".rstrip() if owner else description)[:LONGEST_NAME],
            unit=unit,
            total=total,
            initial=initial,
            bar_format=BAR,
            dynamic_ncols=True,
            mininterval=0.2,
            leave=False,
            disable=hidden,
        )
    return tqdm(
        desc=description,
        unit=unit,
        total=total,
        initial=initial,
        file=_LogLines(),
        bar_format=(
            "{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed} elapsed, {remaining} remaining{postfix}"
        ),
        delay=LOG_INTERVAL,
        mininterval=LOG_INTERVAL,
        maxinterval=LOG_INTERVAL,
        miniters=1,
        leave=False,
        disable=hidden,
    )
