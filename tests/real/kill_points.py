"""Kill an entry point at each write, rename, deletion and transaction; run it again; compare.

    python -m real.kill_points ENTRY... --model FOLDER --folder FOLDER [--sample N] [--share 1/2]

A process that has imported everything forks one child per trial. A child counts what it does to the
trial's folder and to its database, and kills itself with signal 9 at the point of the trial: just
before a transaction is committed, a file is opened, renamed or deleted, or a folder is made; or when
half of a file is written. Then another child runs the same command to its end, and what is there
must be what one whole start leaves (see `store_facts`).
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from real.scenarios import SCENARIOS, Scenario
from real.store_facts import Facts, differences, facts

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
CHANGES = ("INSERT", "UPDATE", "DELETE")
LIMIT = 120  # seconds for one start
RawText = argparse.RawDescriptionHelpFormatter


@dataclass(frozen=True)
class Point:
    """A place to kill a process: before event `number`, or in the middle of the file it opens."""

    number: int
    half: bool
    label: str


class Events:
    """Counts what this process does to a folder and to databases; kills it at a point."""

    def __init__(self, folder: Path, point: Point | None, log: Path | None) -> None:
        self.folder = f"{folder}/"
        self.point = point
        self.log = log.open("w", encoding="utf-8") if log else None
        self.count = 0
        self.cut: tuple[str, int] | None = None  # a file to be cut in half, and its size before
        self.lock = threading.RLock()
        self.inside = False

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
        if self.inside:
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
        """Count an event; die if its time has come."""
        with self.lock:
            self.inside = True
            self.count += 1
            if self.log:
                self.log.write(f"{label}\n")
                self.log.flush()
            if self.cut:
                path, before = self.cut
                if os.path.isfile(path):
                    size = os.path.getsize(path)
                    os.truncate(path, before + max(size - before, 0) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            if self.point and self.count == self.point.number:
                if not self.point.half:
                    os.kill(os.getpid(), signal.SIGKILL)
                if written:
                    size = os.path.getsize(written) if os.path.isfile(written) else 0
                    self.cut = (written, size)
            self.inside = False


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
        self.output, self.trace = folder / "output.txt", folder / "events.txt"
        for name in ("", "tmp", "cache"):
            (self.folder / name).mkdir(parents=True)
        prepared = forked(
            lambda: self.scenario.prepare(self.folder, self.model), self.folder, self.output
        )
        assert prepared == 0, self.output.read_text("utf-8")[-3000:]
        shutil.copytree(self.folder, self.snapshot)

    def start(self, point: Point | None = None, log: Path | None = None) -> int:
        """Run the command once in the trial's folder; its exit status."""

        def work() -> None:
            from isogloss.cli.main import program
            from isogloss.hpo import storage

            storage.HEARTBEAT, storage.GRACE = 1, 3  # seconds until a killed trial is tried again
            tempfile.gettempdir()  # Python writes a file of its own to try it
            Events(self.folder, point, log).install()
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

    def reference(self) -> tuple[Facts, set[str]]:
        """What a start leaves without a kill, and the facts that differ between two of them."""
        seen = []
        for log in (self.trace, None):
            self.reset()
            status = self.start(log=log)
            assert status == 0, self.output.read_text("utf-8")[-3000:]
            if log:
                import_again(log.with_suffix(".modules").read_text("utf-8").split())
            once = facts(self.folder)
            seen.append(once)
        first, second = seen
        assert first.keys() == second.keys(), sorted(first.keys() ^ second.keys())
        return first, {name for name in first if first[name] != second[name]}

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

    def trial(self, point: Point, expected: Facts, volatile: set[str]) -> list[str]:
        """Kill the command at a point, run it again; what is not as expected."""
        self.reset()
        status = self.start(point)
        if status != -signal.SIGKILL:
            return [] if status == 0 else [f"the first start ended with {status}"]
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
    harness: Harness, entry: str, sample: int | None, share: tuple[int, int]
) -> tuple[int, int]:
    """Try the points of an entry point; how many of them are survived, and how many there are."""
    expected, volatile = harness.reference()
    points = spread(harness.points(), sample, share)
    good = 0
    for point in points:
        wrong = harness.trial(point, expected, volatile)
        good += not wrong
        if wrong:
            print(f"{entry}: killed at {point.number} ({point.label})", flush=True)
            for line in wrong[:12]:
                print(f"    {line}", flush=True)
    print(f"{entry}: {good} of {len(points)} kill points survived", flush=True)
    return good, len(points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RawText)
    parser.add_argument("entries", nargs="+", help=f"of {', '.join(SCENARIOS)}, or all")
    parser.add_argument("--model", type=Path, required=True, help="folder of a tiny model")
    parser.add_argument("--folder", type=Path, required=True, help="for stores and files")
    parser.add_argument("--sample", type=int, help="of points of each entry point, evenly spread")
    parser.add_argument("--share", default="1/1", help="such as 2/3: the second of three shares")
    options = parser.parse_args()
    number, of = map(int, options.share.split("/"))
    names = list(SCENARIOS) if options.entries == ["all"] else options.entries
    import_everything()
    results = []
    for entry in names:
        harness = Harness(SCENARIOS[entry], options.model.resolve(), options.folder / entry)
        results.append(survived(harness, entry, options.sample, (number, of)))
    good, count = (sum(values) for values in zip(*results, strict=True))
    print(f"{good} of {count} kill points survived", flush=True)
    sys.exit(good < count)


def import_again(names: list[str]) -> None:
    """Import what a child has imported, so that the next ones need not."""
    for name in names:
        if name not in sys.modules and name.partition(".")[0] in sys.modules:
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
