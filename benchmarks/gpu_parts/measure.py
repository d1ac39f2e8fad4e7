"""Time and memory on a device: synchronised clocks, deadlines and peak memory."""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


class OutOfTimeError(Exception):
    """The time of a part is over before it has a result."""


class Deadline:
    """A point in time that a part must not pass."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left; not positive once it has passed."""
        return self.end - time.monotonic()

    def within(self, seconds: float) -> "Deadline":
        """The earlier of this deadline and one in `seconds`."""
        return Deadline(min(self.left, seconds))

    def check(self) -> None:
        """Raise OutOfTimeError if it has passed."""
        if self.left <= 0:
            raise OutOfTimeError("the time of this part is over.")


def synchronise(device: torch.device) -> None:
    """Wait for the work of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(device: torch.device, work: Callable[[], object]) -> float:
    """Wall-clock time of one call, the work of the device included."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def kernel_seconds(
    device: torch.device, work: Callable[[], object], *, repeats: int = 20, warm_up: int = 3
) -> float:
    """The median time of a call, by the device's own events where it has them."""
    for _ in range(warm_up):
        work()
    if device.type != "cuda":
        return statistics.median(seconds_of(device, work) for _ in range(repeats))
    event: Any = torch.cuda.Event
    events = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(repeats)]
    for start, end in events:
        start.record()
        work()
        end.record()
    torch.cuda.synchronize(device)
    return float(statistics.median(start.elapsed_time(end) for start, end in events)) / 1e3


def reset_peak(device: torch.device) -> None:
    """Free what is unused and start counting the peak of the device's memory anew."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: torch.device) -> float | None:
    """Peak of the memory that torch had in use since `reset_peak`, GB; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
