"""An evaluation that is told to end at a bad moment, and the same command again, as JSON.

    python -m real.told_to_end --folder FOLDER

Signals, the database, and shortages of memory, disk and time are real; only the work is none. A
process that has imported everything forks a child for each start.
"""

import argparse
import atexit
import gc
import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mlflow
import pandas as pd
import psutil
from pydantic import BaseModel
from sqlalchemy import event
from sqlalchemy.engine import Engine

from isogloss import tracking
from isogloss.cli.command import stage_command
from isogloss.config import EvaluateConfig
from isogloss.tracking import RunKind
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.reuse import reuse_or_lock
from isogloss.tracking.store import ensure_store
from real.kill_points import forked

PAUSE = 1.5  # seconds that a shortage lasts: longer than one try to end a run
FLUENT, RESUME = "mlflow.tracking.fluent", "isogloss.tracking.resume"
ENTRIES = 200_000  # more than there are free blocks
SMALL = range(479, 0, -16)  # for an object in each size of Python's small blocks from 48 bytes
LOCK = 7.0  # seconds that a database is locked: longer than a process waits that is to end


class Nothing(BaseModel):
    """Nothing."""


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def at_call(module: str, name: str, *numbers: int, leaving: bool = False) -> None:
    """Send signals when a function is next called, or when it returns."""

    def profile(frame, what, _) -> None:
        code = frame.f_code
        there = code.co_name == name and frame.f_globals.get("__name__") == module
        if there and what == ("return" if leaving else "call"):
            sys.setprofile(None)
            send(*numbers)

    sys.setprofile(profile)


def at_statement(beginning: str, *, commit: bool = False) -> None:
    """Send SIGTERM before a statement is executed, or before its transaction is committed."""
    seen: list[bool] = []

    def statement(_connection, _cursor, text, *_) -> None:
        if text.startswith(beginning) and not seen:
            seen.append(True)
            if not commit:
                send(signal.SIGTERM)

    def committed(_connection) -> None:
        if seen == [True]:
            seen.append(True)
            if commit:
                send(signal.SIGTERM)

    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "commit", committed)


def told(*numbers: int) -> Callable[[], None]:
    """Send signals and wait for the end."""

    def body() -> None:
        send(*numbers)
        time.sleep(30)

    return body


class Destroyed:
    """An object whose destructor is interrupted, of which Python ignores the exception."""

    def __del__(self) -> None:
        send(signal.SIGTERM)
        time.sleep(0)


def in_a_destructor() -> None:
    Destroyed()
    time.sleep(30)


def in_a_garbage_collection() -> None:
    circle = [Destroyed()]
    circle.append(circle)
    del circle
    gc.collect()
    time.sleep(30)


def in_a_thread() -> None:
    thread = threading.Thread(target=send, args=(signal.SIGTERM,))
    thread.start()
    thread.join()
    time.sleep(30)


def without_memory(filling: list[object], *, told: bool = True) -> None:
    """Let memory run out to the last of Python's small blocks, then be told to end, or fail."""
    filling += [None] * (2 * ENTRIES)
    del filling[ENTRIES:]  # leaves room: a list that had to grow would be full before memory is
    process = os.getpid()
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**22, resource.RLIM_INFINITY))
    sizes = 2**20, 2**16, 2**12, *SMALL
    for make in (*(partial(bytes, size) for size in sizes), partial(float, 1), object):
        try:
            while True:
                filling.append(make())
        except MemoryError:
            pass
    if not told:
        raise MemoryError
    os.kill(process, signal.SIGTERM)
    time.sleep(30)


KEPT: list[object] = []


def held_for_a_moment() -> None:
    begun = threading.Event()

    def release() -> None:
        begun.set()
        time.sleep(PAUSE)
        KEPT.clear()

    threading.Thread(target=release, daemon=True).start()
    begun.wait()
    without_memory(KEPT)


def without_disk() -> None:
    """Be told to end while no file can grow, for a moment."""

    def restore() -> None:
        time.sleep(PAUSE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    threading.Thread(target=restore, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    send(signal.SIGTERM)
    time.sleep(30)


def while_locked() -> None:
    """Be told to end while another connection locks the database, longer than one try waits."""
    locked = threading.Event()

    def lock() -> None:
        path = mlflow.get_tracking_uri().removeprefix("sqlite:///")
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            locked.set()
            time.sleep(LOCK)
            other.execute("ROLLBACK")

    threading.Thread(target=lock, daemon=True).start()
    locked.wait()
    send(signal.SIGTERM)
    time.sleep(30)


def end_again(*numbers: int) -> Callable[[], None]:
    """Be told to end, and once more while the run is being ended."""

    def body() -> None:
        at_call(FLUENT, "end_run", *numbers)
        told(signal.SIGTERM)()

    return body


def error_then_told() -> None:
    """Be told to end while a run that failed is being ended."""
    at_call(FLUENT, "end_run", signal.SIGTERM)
    raise RuntimeError("an error of the work")


def at_exit() -> None:
    atexit.register(send, signal.SIGTERM)


def nothing() -> None:
    pass


def wait() -> None:
    """Work on, unless a signal has come."""
    time.sleep(30)


# What happens before the run is opened, and in it.
SCENARIOS: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
    "run created": (lambda: at_statement("INSERT INTO runs"), wait),
    "run committed": (lambda: at_statement("INSERT INTO runs", commit=True), wait),
    "run opened": (lambda: at_call(FLUENT, "start_run", signal.SIGTERM, leaving=True), wait),
    "run recorded": (lambda: at_call(RESUME, "record_run", signal.SIGTERM), wait),
    "parameters written": (lambda: at_statement("INSERT INTO params", commit=True), wait),
    "status written": (nothing, lambda: at_statement("UPDATE runs", commit=True)),
    "status called": (nothing, lambda: at_call(FLUENT, "end_run", signal.SIGTERM)),
    "SIGTERM": (nothing, told(signal.SIGTERM)),
    "SIGHUP twice": (nothing, told(signal.SIGHUP, signal.SIGHUP)),
    "SIGINT twice": (nothing, told(signal.SIGINT, signal.SIGINT)),
    "SIGTERM, SIGINT": (nothing, told(signal.SIGTERM, signal.SIGINT)),
    "again: SIGTERM": (nothing, end_again(signal.SIGTERM)),
    "again: SIGINT": (nothing, end_again(signal.SIGINT)),
    "again: all": (nothing, end_again(signal.SIGHUP, signal.SIGINT, signal.SIGTERM)),
    "after an error": (nothing, error_then_told),
    "destructor": (nothing, in_a_destructor),
    "garbage collection": (nothing, in_a_garbage_collection),
    "thread": (nothing, in_a_thread),
    "atexit": (nothing, at_exit),
    "memory in a frame": (nothing, lambda: without_memory([])),
    "memory held": (nothing, held_for_a_moment),
    "memory never free": (nothing, lambda: without_memory(KEPT)),
    "error without memory": (nothing, lambda: without_memory(KEPT, told=False)),
    "disk": (nothing, without_disk),
    "lock": (nothing, while_locked),
}


def start(before: Callable[[], None], body: Callable[[], None], folder: Path, output: Path) -> int:
    """Run the command in a child; its exit status, negative for a signal."""

    def command() -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def evaluate(_: Nothing) -> None:
            before()
            config = EvaluateConfig()
            with reuse_or_lock(RunKind.EVALUATE, "f" * 64, None) as (work, finished):
                if finished:
                    return
                tags = {"fingerprint": "f" * 64}
                with tracking.open_run(RunKind.EVALUATE, "base", config, tags, None, work):
                    _log(work)
                    body()

        try:
            stage_command("evaluate", Nothing, evaluate).main([])
        finally:
            atexit._run_exitfuncs()  # the harness ends the child without them

    return forked(command, folder, output)


def _log(work: WorkDir) -> None:
    (work.folder / "heb_Hebr.parquet").touch()
    tracking.log_predictions(pd.DataFrame({"correct": [True]}))


def statuses(folder: Path) -> list[str]:
    with sqlite3.connect(f"file:{folder / 'mlflow.db'}?mode=ro", uri=True) as store:
        rows = store.execute("SELECT status FROM runs ORDER BY start_time").fetchall()
    return [status for (status,) in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("names", nargs="*", help="scenarios; all without")
    options = parser.parse_args()
    folder, output = options.folder / "trial", options.folder / "output.txt"
    for name in ("", "tmp", "cache"):
        (folder / name).mkdir(parents=True)
    assert forked(ensure_store, folder, output) == 0, output.read_text("utf-8")
    snapshot = shutil.copytree(folder, options.folder / "snapshot")
    for name in options.names or SCENARIOS:
        shutil.rmtree(folder)
        shutil.copytree(snapshot, folder)
        output.unlink()
        began = time.monotonic()
        status = start(*SCENARIOS[name], folder, output)
        seconds = time.monotonic() - began
        said, left = output.read_text("utf-8"), statuses(folder)
        again = start(nothing, nothing, folder, output)
        found = {
            "name": name, "status": status, "left": left, "again": again,
            "ended": statuses(folder), "seconds": round(seconds, 1), "said": said[-1500:],
        }  # fmt: skip
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
