"""How many threads the numerical libraries of this process start, and how they wait.

Their own defaults count the processors of the machine or of the process's affinity, never the CPU
quota of its container, and OpenMP's threads spin for long while they wait, which takes time from
others. Beside other work they sleep at once, as it then counts most; on an idle machine they spin
for half a millisecond, because a thread that has slept wakes later than the next small operation
lasts (docs/findings.md).
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path
from statistics import median

# OpenMP's variable is read by torch, MKL, OpenBLAS and Arrow, the other one by tokenizers.
OPENMP, RAYON = "OMP_NUM_THREADS", "RAYON_NUM_THREADS"
WAITING, SPINS = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
BRIEFLY = "5000"  # turns of GNU OpenMP's waiting loop
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch: fewer and larger pages for large tensors
GLANCES, BETWEEN = 5, 0.004  # seconds


@dataclass(frozen=True)
class Threads:
    """A number of threads and why it was chosen."""

    number: int
    reason: str


@cache
def limit_threads() -> Threads:
    """Set the environment variables that limit threads, unless the user has set them.

    Libraries read them when they are loaded, so that the first call must precede the imports of
    numpy and torch. Later calls return what the first one chose.
    """
    threads = chosen(os.environ)
    if threads.reason != OPENMP:
        os.environ[OPENMP] = str(threads.number)
    os.environ.setdefault(RAYON, str(threads.number))
    os.environ.setdefault(HUGE_PAGES, "1")
    if WAITING not in os.environ and SPINS not in os.environ:
        if threads.number > 1 and others_running() + threads.number <= len(usable_cpus()):
            os.environ[SPINS] = BRIEFLY
        else:
            os.environ[WAITING] = "PASSIVE"
    return threads


def waiting() -> str:
    """Return how the threads of this process wait, and which variable says so."""
    if WAITING in os.environ:
        return f"waiting {os.environ[WAITING].lower()} ({WAITING})"
    return f"spinning {os.environ.get(SPINS, 'without a limit')} turns before they sleep ({SPINS})"


def chosen(environment: Mapping[str, str], root: Path = Path("/")) -> Threads:
    """Return the number that OMP_NUM_THREADS states, else one per core that this process may use.

    Processes on one machine (LOCAL_WORLD_SIZE) divide the cores. `root` holds /proc and /sys.
    """
    stated = (
        environment.get(OPENMP, "").partition(",")[0].strip()
    )  # a list has one per nesting level
    if stated.isdecimal() and int(stated) > 0:
        return Threads(int(stated), OPENMP)
    cores = usable_cores(root)
    processes = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    if processes > 1:
        return Threads(max(1, cores.number // processes), f"{cores.reason}; {processes} processes")
    return cores


def usable_cores(root: Path = Path("/")) -> Threads:
    """Return the cores that this process may use, by affinity and by CPU quota rounded down."""
    cpus, quota = usable_cpus(), cpu_quota(root)
    cores = {_siblings(cpu, root) for cpu in cpus}
    if quota < len(cores):
        return Threads(max(1, int(quota)), f"CPU quota of {quota:g} processors")
    if len(cpus) < (os.cpu_count() or 1):
        return Threads(len(cores), f"affinity to {len(cpus)} of {os.cpu_count()} processors")
    return Threads(len(cores), "one per core")


def usable_cpus() -> set[int]:
    """Return the processors on which this process may run."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def others_running(root: Path = Path("/")) -> float:
    """Return how many threads of the machine use or await a processor, beside the calling one.

    The median of five glances within 20 ms; infinity where the system does not tell.
    """
    running = []
    for _ in range(GLANCES):
        time.sleep(BETWEEN)
        counts = _text(root / "proc/loadavg").split()[3:4]  # running/all
        number = counts[0].partition("/")[0] if counts else ""
        if not number.isdecimal():
            return inf
        running.append(int(number) - 1)
    return max(median(running), 0)


def cpu_quota(root: Path = Path("/")) -> float:
    """Return the processors' time per time that control groups grant this process, else infinity.

    Of nested groups the tightest counts. Files: cpu.max (version 2), cpu.cfs_quota_us (version 1).
    """
    return min(_quotas(root), default=inf)


def _quotas(root: Path) -> Iterator[float]:
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Inside a container the group's own path may not exist: its files lie at the root.
        for part in (Path(group), *Path(group).parents):
            path = part.relative_to("/")
            if controllers:
                folder = root / "sys/fs/cgroup/cpu" / path
                yield from _quota(
                    _text(folder / "cpu.cfs_quota_us") + " " + _text(folder / "cpu.cfs_period_us")
                )
            else:
                yield from _quota(_text(root / "sys/fs/cgroup" / path / "cpu.max"))


def _quota(text: str) -> Iterator[float]:
    """Yield quota / period; nothing for "max", -1 or a missing file."""
    values = text.split()
    if len(values) == 2 and all(value.isdecimal() and int(value) for value in values):
        yield int(values[0]) / int(values[1])


def _siblings(cpu: int, root: Path) -> str:
    """Return the processors that share the core of this one, as the kernel writes them."""
    return _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(
        cpu
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""
