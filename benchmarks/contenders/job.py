"""A contender's process: one job as JSON in, one result as JSON out, its own peak memory."""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple


class Moment(NamedTuple):
    """A point in time, or a stretch of it: by the clock, and in this process's threads."""

    seconds: float
    cpu_seconds: float

    @classmethod
    def now(cls) -> "Moment":
        """The present."""
        return cls(time.perf_counter(), time.process_time())

    def until(self, end: "Moment") -> "Moment":
        """The stretch from here to `end`."""
        return Moment(end.seconds - self.seconds, end.cpu_seconds - self.cpu_seconds)

    def plus(self, other: "Moment") -> "Moment":
        """Both stretches together."""
        return Moment(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


class Stopwatch:
    """Time spent in `with stopwatch:`, all times together: by the clock, and of all threads.

    On a busy machine the second stays nearer to what it was than the first.
    """

    def __init__(self) -> None:
        self.times = Moment(0.0, 0.0)

    def __enter__(self) -> None:
        self.started = Moment.now()

    def __exit__(self, *error: object) -> None:
        self.times = self.times.plus(self.started.until(Moment.now()))

    @property
    def spent(self) -> dict[str, float]:
        """As results have it."""
        return self.times._asdict()


def peak_mb() -> float:
    """Largest resident set of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step_times(ends: Sequence[Moment]) -> dict[str, Any]:
    """Time of all steps but the first, from the moments at which steps ended; and of each."""
    each = [before.until(after).seconds for before, after in pairwise(ends)]
    return {**ends[0].until(ends[-1])._asdict(), "step_seconds": each}


def read(path: str) -> Any:
    """A JSON file that `prepare` has written."""
    return json.loads(Path(path).read_text("utf-8"))


def main(measure: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Run `measure` on the job in the file of the first argument; result into the second's."""
    job = read(sys.argv[1])
    Path(sys.argv[2]).write_text(json.dumps(measure(job)), "utf-8")
