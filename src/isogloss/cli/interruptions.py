"""Ctrl-C, SIGTERM and SIGHUP: runs end as killed, and one line says how to resume.

Slurm and Kubernetes send SIGTERM, a terminal that closes SIGHUP. The first signal becomes a
KeyboardInterrupt; later ones do not disturb the end that it began. The exception waits while MLflow
writes to its database: a transaction that is broken off leaves a run that nobody knows of, or a
lock that keeps its own process from writing how the run ended. It is raised again if it was lost:
Python ignores an exception in a destructor. Without memory for it, one that exists is raised. A
signal whose handler Python has no memory to call is lost, and the work ends by its MemoryError.
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from isogloss.errors import is_interruption

logger = logging.getLogger(__name__)

# Seconds to wait for a locked database once a signal has arrived, for a transaction to end, and
# until a second Ctrl-C is obeyed. Slurm kills 30 seconds after its SIGTERM.
ENDING = 5
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
ALARM = getattr(signal, "SIGALRM", None)  # Windows has none, nor timers that interrupt
# Whose functions are not broken off: they open and end runs, or have a transaction open.
UNBROKEN = ("sqlalchemy.", "mlflow.store.", "mlflow.tracking.fluent")
UNTIL_WRITTEN = 0.05  # seconds between two looks at whether one of these functions is running
UNTIL_LOST = 1.0  # seconds between two looks at whether the exception was lost


@contextmanager
def interruptions() -> Iterator[None]:
    """Context in which these signals raise KeyboardInterrupt; exits with 128 plus their number.

    A signal that the process ignores, as SIGHUP under nohup, stays ignored.
    """
    received = 0  # not in the exception: Ray replaces one that is raised while it waits
    arrived, raised = 0.0, False
    ready = KeyboardInterrupt()  # for the case that there is no memory for another one

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal received, arrived
        if received:
            if number == signal.SIGINT and time.monotonic() > arrived + ENDING:
                raise KeyboardInterrupt  # the end itself takes too long for somebody who waits
            return
        received = number  # first what needs no memory
        if ending := sys.modules.get("isogloss.tracking.ending"):
            ending.release_reserve()
        try:
            arrived = time.monotonic()
            if ALARM is not None:
                before[ALARM] = signal.signal(ALARM, alarmed)
            strike(frame)
        except MemoryError:
            raise ready from None

    def alarmed(_: int, frame: FrameType | None) -> None:
        try:
            strike(frame)
        except MemoryError:
            raise ready from None

    def strike(frame: FrameType | None) -> None:
        nonlocal raised
        _alarm_after(UNTIL_LOST)  # first, for the case that what follows has no memory
        if raised and is_interruption(sys.exc_info()[1]):  # it is being handled
            return
        if ALARM is not None and _is_writing(frame) and time.monotonic() < arrived + ENDING:
            _alarm_after(UNTIL_WRITTEN)
            return
        if database := sys.modules.get("isogloss.compat.mlflow"):
            database.wait_for_sqlite(ENDING)
        raised = True
        raise KeyboardInterrupt

    before: dict[int, Any] = {}  # the handlers that these replace
    if threading.current_thread() is threading.main_thread():
        before |= {
            number: signal.signal(number, interrupt)
            for number in SIGNALS
            if signal.getsignal(number) not in (signal.SIG_IGN, None)
        }
    try:
        yield
    except BaseException as error:
        if received:
            _alarm_after(0)
        elif not isinstance(error, KeyboardInterrupt):
            raise
        if not isinstance(error, KeyboardInterrupt):
            logger.debug("an error while the command ended", exc_info=error)
        number = received or signal.SIGINT
        click.echo(f"Interrupted by {signal.Signals(number).name}: {_what_is_kept()}.", err=True)
        raise SystemExit(128 + number) from error
    finally:
        if received:
            _alarm_after(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _alarm_after(seconds: float) -> None:
    """Send this process an alarm; 0 stops the one that was to come."""
    if ALARM is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _is_writing(frame: FrameType | None) -> bool:
    """Whether a function that is not broken off is running; `frame` is the innermost one."""
    while frame is not None:
        if f"{frame.f_globals.get('__name__')}.".startswith(UNBROKEN):
            return True
        frame = frame.f_back
    return False


def _what_is_kept() -> str:
    resume = sys.modules.get("isogloss.tracking.resume")  # not loaded, so nothing was begun
    kept = resume.kept if resume else []
    if kept:
        return f"what was computed is in {kept[0]}, and the same command resumes from there"
    return "the same command resumes what has not finished"
