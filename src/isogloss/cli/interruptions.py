"""Ctrl-C, SIGTERM and SIGHUP: runs end as killed, and one line says how to resume.

Slurm and Kubernetes send SIGTERM, a terminal that closes SIGHUP.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

# Seconds to wait for a locked database once a signal has arrived: the lock may be that of a
# transaction which the signal has interrupted, and Slurm kills 30 seconds after it.
ENDING = 5
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def interruptions() -> Iterator[None]:
    """Context in which these signals raise KeyboardInterrupt; exits with 128 plus their number.

    A signal that the process ignores, as SIGHUP under nohup, stays ignored.
    """
    received: list[int] = []  # not in the exception: Ray replaces one that is raised while it waits

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in SIGNALS:  # a second signal does not disturb the end of the first
            signal.signal(other, signal.SIG_IGN)
        received.append(number)
        if database := sys.modules.get("isogloss.compat.mlflow"):
            database.wait_for_sqlite(ENDING)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.signal(number, interrupt)
            for number in SIGNALS
            if signal.getsignal(number) not in (signal.SIG_IGN, None)
        }
    try:
        yield
    except KeyboardInterrupt as error:
        number = received[0] if received else signal.SIGINT
        click.echo(f"Interrupted by {signal.Signals(number).name}: {_what_is_kept()}.", err=True)
        raise SystemExit(128 + number) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _what_is_kept() -> str:
    resume = sys.modules.get("isogloss.tracking.resume")  # not loaded, so nothing was begun
    kept = resume.kept if resume else []
    if kept:
        return f"what was computed is in {kept[0]}, and the same command resumes from there"
    return "the same command resumes what has not finished"
