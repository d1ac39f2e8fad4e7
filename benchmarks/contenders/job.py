"""A contender's process: one job as JSON in, one result as JSON out, its own peak memory."""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any


class Stopwatch:
    """Seconds spent in `with stopwatch:`, all times together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self.started


def peak_mb() -> float:
    """Largest resident set of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step_seconds(stamps: Sequence[float]) -> list[float]:
    """Durations of all steps but the first, from the moments at which steps ended."""
    return [after - before for before, after in pairwise(stamps)]


def read(path: str) -> Any:
    """A JSON file that `prepare` has written."""
    return json.loads(Path(path).read_text("utf-8"))


def main(measure: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Run `measure` on the job in the file of the first argument; result into the second's."""
    job = read(sys.argv[1])
    Path(sys.argv[2]).write_text(json.dumps(measure(job)), "utf-8")
