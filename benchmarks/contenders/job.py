"""A contender's process: one job as JSON in, one result as JSON out, and its peak memory."""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple


class Moment(NamedTuple):
    """A point in time or a duration: wall time, and CPU time of all threads of this process."""

    seconds: float
    cpu_seconds: float

    @classmethod
    def now(cls) -> "Moment":
        """The current time."""
        return cls(time.perf_counter(), time.process_time())

    def until(self, end: "Moment") -> "Moment":
        """The duration from this moment to `end`."""
        return Moment(end.seconds - self.seconds, end.cpu_seconds - self.cpu_seconds)

    def plus(self, other: "Moment") -> "Moment":
        """The sum of two durations."""
        return Moment(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


class Stopwatch:
    """Total time spent in `with stopwatch:`, wall time and CPU time of all threads.

    CPU time varies less than wall time on a busy machine.
    """

    def __init__(self) -> None:
        self.times = Moment(0.0, 0.0)

    def __enter__(self) -> None:
        self.started = Moment.now()

    def __exit__(self, *error: object) -> None:
        self.times = self.times.plus(self.started.until(Moment.now()))

    @property
    def spent(self) -> dict[str, float]:
        """The total as result fields."""
        return self.times._asdict()


def peak_mb() -> float:
    """Peak resident set size of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step_times(ends: Sequence[Moment]) -> dict[str, Any]:
    """Total time of all steps but the first, and the time of each, from the ends of steps."""
    durations = [before.until(after).seconds for before, after in pairwise(ends)]
    return {**ends[0].until(ends[-1])._asdict(), "step_seconds": durations}


def read(path: str) -> Any:
    """A JSON file written by `prepare`."""
    return json.loads(Path(path).read_text("utf-8"))


def main(measure: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Run `measure` on the job in the first file argument; write the result to the second."""
    job = read(sys.argv[1])
    Path(sys.argv[2]).write_text(json.dumps(measure(job)), "utf-8")
