"""Events: what a process does to a folder and to databases, and what happens to it at one of them.

Before an event, or in the middle of the file that it writes, the process is killed with signal 9,
or its folder is copied as a kill would leave it: what has not reached a file or a transaction is
lost in both.
"""

import contextlib
import os
import re
import shutil
import signal
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
CHANGES = ("INSERT", "UPDATE", "DELETE")
TRIES = 5  # to copy a folder
# What is another in each start: ids, process ids and times, random names.
VOLATILE = re.compile(
    r"(?<=isogloss-)[0-9a-f-]+|[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?<=-)[0-9a-f]{12}\b"
    r"|(?<=/tmp)[a-z0-9_]{8}\b|(?<=uploading\.)\w+"
)


@dataclass(frozen=True)
class Point:
    """A place to stop a process: before an event, or in the middle of the file that it opens.

    The event is the one with this label that comes after `earlier` others of the same label. It is
    not known by its number, since two starts do not write everything in one order: leases are
    renewed by the clock.
    """

    number: int  # in the start that was recorded
    label: str
    earlier: int
    half: bool = False

    @property
    def name(self) -> str:
        """A name for files about it."""
        return f"{self.number}-half" if self.half else str(self.number)

    def __str__(self) -> str:
        half = "half of " if self.half else ""
        return f"{self.number} ({half}{self.label})"


@dataclass(frozen=True)
class Cut:
    """A file of which half of what was written is lost; `before` is its size before, in bytes."""

    path: str
    before: int

    def apply(self, path: str) -> None:
        """Cut the file, or the copy of it that is at `path`."""
        if os.path.isfile(path):
            size = os.path.getsize(path)
            os.truncate(path, self.before + max(size - self.before, 0) // 2)


Strike = Callable[[Point, Cut | None], None]


def kill(point: Point, cut: Cut | None) -> None:
    """End this process at once."""
    if cut:
        cut.apply(cut.path)
    os.kill(os.getpid(), signal.SIGKILL)


def terminate(point: Point, cut: Cut | None) -> None:
    """Tell this process to end, as Slurm and Kubernetes do; it may still tidy up."""
    os.kill(os.getpid(), signal.SIGTERM)


def photographing(folder: Path, photos: Path) -> Strike:
    """A function that copies a folder as a kill would leave it, to a folder named after the point.

    A database's journal may vanish meanwhile, with a transaction of another thread.
    """

    def photograph(point: Point, cut: Cut | None) -> None:
        copy = photos / point.name
        for _ in range(TRIES):
            with contextlib.suppress(shutil.Error):
                shutil.copytree(folder, copy, symlinks=True)
                break
            shutil.rmtree(copy)
        else:
            raise AssertionError(f"{folder} changes whenever it is copied")
        if cut:
            cut.apply(str(copy / os.path.relpath(cut.path, folder)))

    return photograph


class Events:
    """Counts what this process does to a folder and to databases; strikes at points."""

    def __init__(
        self, folder: Path, points: Sequence[Point] = (), strike: Strike = kill,
        log: Path | None = None,
    ) -> None:  # fmt: skip
        self.folder = f"{folder}/"
        self.points: dict[tuple[str, int], list[Point]] = defaultdict(list)
        for point in points:
            self.points[point.label, point.earlier].append(point)
        self.strike = strike
        self.log = log.open("w", encoding="utf-8") if log else None
        self.counts: Counter[str] = Counter()
        self.pending: tuple[Point, Cut] | None = None  # to strike when the file is written
        self.lock = threading.RLock()
        self.busy: int | None = None  # the thread whose event is being dealt with

    def install(self) -> None:
        """Begin to count; there is no end, since Python keeps its audit hooks."""
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        sys.addaudithook(self.audit)

        def statement(connection, cursor, text, *_) -> None:
            words = text.split()
            if words[0].upper() in CHANGES:
                table = words[2] if words[0].upper() != "UPDATE" else words[1]
                connection.info.setdefault("changes", []).append(f"{words[0].lower()} {table}")

        def commit(connection) -> None:
            if changes := connection.info.pop("changes", None):
                self.happens(f"commit {', '.join(dict.fromkeys(changes))}")

        event.listen(Engine, "before_cursor_execute", statement)
        event.listen(Engine, "commit", commit)
        event.listen(Engine, "rollback", lambda connection: connection.info.pop("changes", None))

    def audit(self, name: str, args: tuple[object, ...]) -> None:
        """Count what changes a file or folder of the trial."""
        if self.busy == threading.get_ident():
            return
        if name == "open":
            path, _, flags = args
            if isinstance(path, (str, bytes, os.PathLike)) and int(flags) & WRITES:
                self.path_event("write", os.fsdecode(path))
        elif name in ("os.mkdir", "os.remove", "os.rmdir"):
            path, *_, directory = args
            # Within `shutil.rmtree` a path is relative to an open folder.
            text = os.fsdecode(path)
            if directory != -1:
                self.happens(f"{name[3:]} in a folder")
            else:
                self.path_event(name[3:], text)
        elif name == "os.rename":
            self.path_event("rename", os.fsdecode(args[1]))

    def path_event(self, verb: str, path: str) -> None:
        absolute = os.path.abspath(path)
        if not absolute.startswith(self.folder) or absolute.endswith((".lock", ".log")):
            return
        relative = absolute.removeprefix(self.folder)
        if "/.locks/" in f"/{relative}" or "mlflow.db" in relative:
            return
        self.happens(f"{verb} {relative}", absolute if verb == "write" else None)

    def happens(self, label: str, written: str | None = None) -> None:
        """Count an event; strike if it is a point, or if half of the file before it was one."""
        label = VOLATILE.sub("*", label)
        with self.lock:
            self.busy = threading.get_ident()
            if self.log:
                self.log.write(f"{label}\n")
                self.log.flush()
            if self.pending:
                self.strike(*self.pending)
                self.pending = None
            points = self.points.get((label, self.counts[label]), ())
            self.counts[label] += 1
            for point in points:
                if not point.half:
                    self.strike(point, None)
                elif written:
                    size = os.path.getsize(written) if os.path.isfile(written) else 0
                    self.pending = (point, Cut(written, size))
            self.busy = None
