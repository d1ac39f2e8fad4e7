"""Kill an entry point at each write, rename, deletion and transaction; run it again; compare.

    python -m real.kill_points ENTRY... --model FOLDER --folder FOLDER [--sample N] [--share 1/2]

The points are just before a transaction is committed, a file is opened, renamed or deleted, or a
folder is made; or when half of a file is written (see `write_events`). At each of them the command
runs again to its end, and what is there must be what one whole start leaves (see `store_facts`).

With --kill, which --sample implies, each trial starts the command and kills it with signal 9; with
--terminate it is told to end with SIGTERM, and must end with status 143 and no run left running.
Without, one start is photographed: at each point the folder is copied as a kill would leave it, so
a trial is the second start alone, from one of the copies. A process that has imported everything
forks one child per start.
"""

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import groupby
from pathlib import Path
from typing import Any

from real.scenarios import SCENARIOS, Scenario
from real.store_facts import Facts, differences, facts
from real.write_events import Events, Point, Strike, kill, photographing, terminate

LIMIT = 600  # seconds for one start
ENDS = 3  # of like events, so many are tried at both ends
CODE = "/code/isogloss"  # the package in a logged model
RENEWED = "commit update isogloss_leases"  # as often as the clock has it: once is a point
PROGRESS = 10  # points after which there is a line
RawText = argparse.RawDescriptionHelpFormatter


def forked(work: Callable[[], None], folder: Path, output: Path) -> int:
    """Run a function in a child; its exit status, negative for a signal."""
    return ended(fork(work, folder, output))


def fork(work: Callable[[], None], folder: Path, output: Path) -> int:
    """Begin a function in a child with its own standard streams; the child's process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            os.chdir(folder)
            os.environ |= {
                "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
                "ISOGLOSS_UNFINISHED": str(folder / "unfinished"),
                "ISOGLOSS_CACHE": str(folder / "cache"),
                "TMPDIR": str(folder / "tmp"),
            }
            tempfile.tempdir = None  # to be read from the environment again
            work()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return child


def ended(child: int) -> int:
    """Wait for a child, which is killed after a time; its exit status, negative for a signal."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


class End(Enum):
    """How the first start of a trial ends."""

    KILL = auto()
    TERMINATE = auto()
    PHOTOGRAPH = auto()  # it does not, but its folder is copied


# Exit status of a start that ends at a point, negative for a signal.
STATUS = {End.KILL: -signal.SIGKILL, End.TERMINATE: 143, End.PHOTOGRAPH: -signal.SIGKILL}


@dataclass(frozen=True)
class Expected:
    """What a whole start leaves, another one, and a second one after it: the work is reused."""

    once: Facts
    again: Facts
    twice: Facts

    def differences(
        self, found: Facts, unlike: Callable[[str], bool], or_twice: bool = False
    ) -> list[str]:
        """How facts differ from those of one start, or also of two, apart from what always does."""
        lines = []
        for expected in (self.once, self.twice) if or_twice else (self.once,):
            volatile = {name for name in expected if expected[name] != self.again.get(name)}
            lines.append(differences(expected, volatile, found, unlike))
        return min(lines, key=len)


class Harness:
    """Trials of one entry point, all in one folder: stores hold absolute paths."""

    def __init__(self, scenario: Scenario, model: Path, folder: Path) -> None:
        self.scenario, self.model = scenario, model
        self.folder, self.snapshot = folder / "trial", folder / "snapshot"
        self.photos = folder / "photos"
        self.output, self.trace = folder / "output.txt", folder / "events.txt"
        for name in ("", "tmp", "cache"):
            (self.folder / name).mkdir(parents=True)
        prepared = forked(
            lambda: self.scenario.prepare(self.folder, self.model), self.folder, self.output
        )
        assert prepared == 0, self.output.read_text("utf-8")[-3000:]
        shutil.copytree(self.folder, self.snapshot)

    def start(
        self, points: Sequence[Point] = (), strike: Strike = kill, log: Path | None = None
    ) -> int:
        """Run the command once in the trial's folder; its exit status."""

        def work() -> None:
            from optuna.storages.journal import JournalFileSymlinkLock

            from isogloss.cli.main import program
            from isogloss.hpo import storage

            storage.HEARTBEAT, storage.GRACE = 1, 3  # seconds until a killed trial is tried again
            JournalFileSymlinkLock.__init__.__defaults__ = (3,)  # until a killed one's lock is free
            tempfile.gettempdir()  # Python writes a file of its own to try it
            Events(self.folder, points, strike, log).install()
            try:
                program.main(self.scenario.command(self.folder, self.model), "isogloss")
            finally:
                if log:
                    log.with_suffix(".modules").write_text("\n".join(sorted(sys.modules)))

        return forked(work, self.folder, self.output)

    def reset(self) -> None:
        """Bring the folder to the state before the command."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.snapshot, self.folder)
        self.output.unlink(missing_ok=True)

    def whole(self, **how: Any) -> Facts:
        """What one whole start leaves; `how` as in `start`."""
        self.reset()
        status = self.start(**how)
        assert status == 0, self.output.read_text("utf-8")[-3000:]
        return facts(self.folder)

    def points(self) -> list[Point]:
        """The points at which the command is killed.

        Of like events one after another, such as files copied into one folder, some at both ends.
        """
        counts: Counter[str] = Counter()
        recorded = []
        for number, label in enumerate(self.trace.read_text("utf-8").splitlines(), 1):
            recorded.append(Point(number, label, counts[label]))
            counts[label] += 1
        found = []
        for _, group in groupby(recorded, lambda point: _kind(point.label)):
            points = list(group)
            for at, point in enumerate(points):
                if ENDS <= at < len(points) - ENDS or (point.label == RENEWED and point.earlier):
                    continue
                found.append(point)
                if point.label.startswith("write "):
                    found.append(replace(point, half=True))
        return found

    def photograph(self, points: Sequence[Point]) -> Facts:
        """Copy the folder at each point of one whole start, which the copies outlive."""
        self.photos.mkdir()
        return self.whole(points=points, strike=photographing(self.folder, self.photos))

    def killed(self, point: Point, end: End) -> int:
        """Bring the folder to the state after an end at a point; the status, 0 if not reached."""
        if end == End.PHOTOGRAPH:
            photo = self.photos / point.name
            if not photo.is_dir():
                return 0
            shutil.rmtree(self.folder)
            photo.rename(self.folder)
            self.output.unlink(missing_ok=True)
            return STATUS[end]
        self.reset()
        return self.start([point], kill if end == End.KILL else terminate)

    def left_running(self) -> list[str]:
        """Runs that a process left running, although it was told to end; one line each."""
        with sqlite3.connect(f"file:{self.folder / 'mlflow.db'}?mode=ro", uri=True) as store:
            names = store.execute("SELECT name FROM runs WHERE status = 'RUNNING'").fetchall()
        return [f"{name} is left running" for (name,) in names]

    def trial(self, expected: Expected) -> list[str]:
        """Run the command after a kill; what is not as expected."""
        done = not expected.differences(self.facts(), lambda name: name.startswith("left: "))
        status = self.start()
        if status != 0:
            last = self.output.read_text("utf-8").strip().splitlines()[-1:]
            return [f"the second start ended with {status}: {last}"]
        found = facts(self.folder)
        return self.scenario.check(found) or expected.differences(found, self.unlike, or_twice=done)

    def facts(self) -> Facts:
        """The facts after a kill; none if only a writer could read the database."""
        try:
            return facts(self.folder)
        except sqlite3.Error:
            return {}

    def unlike(self, name: str) -> bool:
        """Whether a fact may be another after a kill."""
        return any(text in name for text in self.scenario.unlike)


def _kind(label: str) -> str:
    """Like events have one kind: those of one verb and one folder, copies of a package's code."""
    verb, _, path = label.partition(" ")
    if CODE in path:
        return f"copy {path.partition(CODE)[0]}"
    if path == "in a folder":
        return "deletion of a tree"
    return label if verb == "commit" else f"{verb} {os.path.dirname(path)}"


def spread(points: list[Point], sample: int | None, share: tuple[int, int]) -> list[Point]:
    """Every k-th point so that there are `sample` of them, or one share of several."""
    if sample is not None and sample < len(points):
        return [points[at * len(points) // sample] for at in range(sample)]
    number, of = share
    return points[number - 1 :: of]


def survived(
    harness: Harness, entry: str, sample: int | None, share: tuple[int, int], end: End
) -> tuple[int, int]:
    """Try the points of an entry point; how many of them are survived, and how many are tried."""
    first = harness.whole(log=harness.trace)
    import_again(harness.trace.with_suffix(".modules").read_text("utf-8").split())
    points = spread(harness.points(), sample, share)
    if end == End.TERMINATE:
        points = [point for point in points if not point.half]  # a process is told, not cut off
    again = harness.photograph(points) if end == End.PHOTOGRAPH else harness.whole()
    assert first.keys() == again.keys(), sorted(first.keys() ^ again.keys())
    assert harness.start() == 0, harness.output.read_text("utf-8")[-3000:]
    expected = Expected(first, again, facts(harness.folder))
    print(f"{entry}: {len(points)} kill points", flush=True)
    good = tried = 0
    for point in points:
        began = time.monotonic()
        status = harness.killed(point, end)
        if status == 0:
            print(f"{entry}: not reached: {point}", flush=True)
            continue
        wrong = [] if status == STATUS[end] else [f"the first start ended with {status}"]
        wrong += harness.left_running() if end == End.TERMINATE else []
        wrong += harness.trial(expected)
        tried += 1
        good += not wrong
        if tried % PROGRESS == 0:
            seconds = time.monotonic() - began
            print(f"{entry}: {good} of {tried} survived, the last in {seconds:.1f} s", flush=True)
        if wrong:
            print(f"{entry}: killed at {point}", flush=True)
            for line in wrong[:12]:
                print(f"    {line}", flush=True)
    print(f"{entry}: {good} of {tried} kill points survived", flush=True)
    return good, tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RawText)
    parser.add_argument("entries", nargs="+", help=f"of {', '.join(SCENARIOS)}, or all")
    parser.add_argument("--model", type=Path, required=True, help="folder of a tiny model")
    parser.add_argument("--folder", type=Path, required=True, help="for stores and files")
    parser.add_argument("--sample", type=int, help="of points of each entry point, evenly spread")
    parser.add_argument("--share", default="1/1", help="such as 2/3: the second of three shares")
    parser.add_argument("--kill", action="store_true", help="no photographs, but kills")
    parser.add_argument("--terminate", action="store_true", help="SIGTERM in place of kills")
    options = parser.parse_args()
    killing = options.kill or options.sample is not None
    end = End.TERMINATE if options.terminate else End.KILL if killing else End.PHOTOGRAPH
    number, of = map(int, options.share.split("/"))
    names = list(SCENARIOS) if options.entries == ["all"] else options.entries
    import_everything()
    results = []
    for entry in names:
        harness = Harness(SCENARIOS[entry], options.model.resolve(), options.folder / entry)
        results.append(survived(harness, entry, options.sample, (number, of), end))
    good, count = (sum(values) for values in zip(*results, strict=True))
    print(f"{good} of {count} kill points survived", flush=True)
    sys.exit(good < count)


def import_again(names: list[str]) -> None:
    """Import what a child has imported, so that the next ones need not."""
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()


def import_everything() -> None:
    """Import once what each child would import; no thread may be started here."""
    import mlflow.pyfunc
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from mlflow.utils import requirements_utils

    import isogloss.stages.compare
    import isogloss.stages.evaluate_adapters
    import isogloss.stages.import_results
    import isogloss.stages.register
    import isogloss.stages.study
    import isogloss.stages.tune  # noqa: F401
    from isogloss.cli.main import program  # noqa: F401

    # As a model is logged, MLflow looks at every file of every installed package, for seconds.
    requirements_utils._init_packages_to_modules_map()
    torch.set_num_threads(1)
    assert threading.active_count() == 1, threading.enumerate()


if __name__ == "__main__":
    main()
