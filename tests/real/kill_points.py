"""Kill an entry point at each write, rename, deletion and transaction; run it again; compare.

    python -m real.kill_points ENTRY... --model FOLDER --folder FOLDER [--sample N] [--share 1/2]

The points are just before a transaction is committed, a file is opened, renamed or deleted, or a
folder is made; or when half of a file is written (see `write_events`). At each of them the command
runs again to its end, and what is there must be what one whole start leaves (see `store_facts`).

With --kill, which --sample implies, each trial starts the command and kills it with signal 9.
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
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from real.scenarios import SCENARIOS, Scenario
from real.store_facts import Facts, differences, facts
from real.write_events import Events, Point, Strike, kill, photographing

LIMIT = 600  # seconds for one start
PROGRESS = 10  # points after which there is a line
RawText = argparse.RawDescriptionHelpFormatter


def forked(work: Callable[[], None], folder: Path, output: Path) -> int:
    """Run a function in a child with its own standard streams; its status, negative for a signal."""
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
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


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
            from isogloss.cli.main import program
            from isogloss.hpo import storage

            storage.HEARTBEAT, storage.GRACE = 1, 3  # seconds until a killed trial is tried again
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

        Of like events one after another, such as files copied into one folder, the first and the
        last.
        """
        labels = self.trace.read_text("utf-8").splitlines()
        kinds = [_kind(label) for label in labels]
        found = []
        for at, kind in enumerate(kinds):
            within = 0 < at < len(kinds) - 1 and kinds[at - 1] == kind == kinds[at + 1]
            if within:
                continue
            found.append(Point(at + 1, False, labels[at]))
            if labels[at].startswith("write "):
                found.append(Point(at + 1, True, f"half of {labels[at]}"))
        return found

    def photograph(self, points: Sequence[Point]) -> Facts:
        """Copy the folder at each point of one whole start, which the copies outlive."""
        self.photos.mkdir()
        return self.whole(points=points, strike=photographing(self.folder, self.photos))

    def killed(self, point: Point) -> bool:
        """Bring the folder to the state after a kill at a point; False if there is none."""
        if self.photos.is_dir():
            photo = self.photos / point.name
            if not photo.is_dir():
                return False
            shutil.rmtree(self.folder)
            photo.rename(self.folder)
            self.output.unlink(missing_ok=True)
            return True
        self.reset()
        return self.start([point]) == -signal.SIGKILL

    def trial(self, expected: Facts, volatile: set[str]) -> list[str]:
        """Run the command after a kill; what is not as expected."""
        status = self.start()
        if status != 0:
            last = self.output.read_text("utf-8").strip().splitlines()[-1:]
            return [f"the second start ended with {status}: {last}"]
        found = facts(self.folder)
        return self.scenario.check(found) or differences(expected, volatile, found, self.unlike)

    def unlike(self, name: str) -> bool:
        """Whether a fact may be another after a kill."""
        return any(text in name for text in self.scenario.unlike)


def _kind(label: str) -> str:
    """Like events have one kind: those of one verb and one folder."""
    verb, _, path = label.partition(" ")
    return label if verb == "commit" else f"{verb} {os.path.dirname(path)}"


def spread(points: list[Point], sample: int | None, share: tuple[int, int]) -> list[Point]:
    """Every k-th point so that there are `sample` of them, or one share of several."""
    if sample is not None and sample < len(points):
        return [points[at * len(points) // sample] for at in range(sample)]
    number, of = share
    return points[number - 1 :: of]


def survived(
    harness: Harness, entry: str, sample: int | None, share: tuple[int, int], killing: bool
) -> tuple[int, int]:
    """Try the points of an entry point; how many of them are survived, and how many are tried."""
    expected = harness.whole(log=harness.trace)
    import_again(harness.trace.with_suffix(".modules").read_text("utf-8").split())
    points = spread(harness.points(), sample, share)
    again = harness.whole() if killing else harness.photograph(points)
    assert expected.keys() == again.keys(), sorted(expected.keys() ^ again.keys())
    volatile = {name for name in expected if expected[name] != again[name]}
    print(f"{entry}: {len(points)} kill points", flush=True)
    good = tried = 0
    for point in points:
        began = time.monotonic()
        if not harness.killed(point):
            print(f"{entry}: not reached: {point.number} ({point.label})", flush=True)
            continue
        wrong = harness.trial(expected, volatile)
        tried += 1
        good += not wrong
        if tried % PROGRESS == 0:
            seconds = time.monotonic() - began
            print(f"{entry}: {good} of {tried} survived, the last in {seconds:.1f} s", flush=True)
        if wrong:
            print(f"{entry}: killed at {point.number} ({point.label})", flush=True)
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
    parser.add_argument("--kill", action="store_true", help="instead of photographs; with --sample")
    options = parser.parse_args()
    killing = options.kill or options.sample is not None
    number, of = map(int, options.share.split("/"))
    names = list(SCENARIOS) if options.entries == ["all"] else options.entries
    import_everything()
    results = []
    for entry in names:
        harness = Harness(SCENARIOS[entry], options.model.resolve(), options.folder / entry)
        results.append(survived(harness, entry, options.sample, (number, of), killing))
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

    import isogloss.stages.compare
    import isogloss.stages.evaluate_adapters
    import isogloss.stages.import_results
    import isogloss.stages.register
    import isogloss.stages.study
    import isogloss.stages.tune  # noqa: F401
    from isogloss.cli.main import program  # noqa: F401

    torch.set_num_threads(1)
    assert threading.active_count() == 1, threading.enumerate()


if __name__ == "__main__":
    main()
