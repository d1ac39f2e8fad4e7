"""How many threads a process starts: affinity, CPU quota, cores, what the user has set."""

import os
from math import inf
from pathlib import Path

import pytest

from isogloss import threads
from isogloss.threads import (
    Threads,
    chosen,
    cpu_quota,
    limit_threads,
    others_running,
    usable_cores,
    waiting,
)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 64 processors, all of which the process may use."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


V2 = {"proc/self/cgroup": "0::/pod/task", "sys/fs/cgroup/cpu.max": "max 100000"}
V1 = {"proc/self/cgroup": "3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n1:memory:/docker/abc\n0::/"}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, inf),
        (V2, inf),
        ({**V2, "sys/fs/cgroup/cpu.max": "200000 100000"}, 2.0),  # a container's own root
        ({**V2, "sys/fs/cgroup/pod/task/cpu.max": "150000 100000"}, 1.5),
        (
            {
                **V2,
                "sys/fs/cgroup/pod/cpu.max": "200000 100000",
                "sys/fs/cgroup/pod/task/cpu.max": "400000 100000",
            },
            2.0,  # the tightest of nested groups
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            2.0,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000",
            },
            inf,
        ),
        ({**V2, "sys/fs/cgroup/cpu.max": "damaged"}, inf),
        ({**V2, "sys/fs/cgroup/cpu.max": "100000 0"}, inf),
    ],
)
def test_the_quota_is_that_of_the_tightest_control_group(
    tmp_path: Path, files: dict[str, str], quota: float
) -> None:
    assert cpu_quota(write(tmp_path, files)) == quota


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("limit", "number"), [("200000", 2), ("765000", 7), ("50000", 1), ("6400000", 64), ("max", 64)]
)
def test_threads_follow_the_quota_rounded_down(tmp_path: Path, limit: str, number: int) -> None:
    root = write(tmp_path, {**V2, "sys/fs/cgroup/cpu.max": f"{limit} 100000"})
    assert chosen({}, root).number == number
    if number < 64:
        assert chosen({}, root).reason == f"CPU quota of {int(limit) / 100000:g} processors"


def test_threads_follow_the_affinity_and_count_cores(
    tmp_path: Path, many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert usable_cores(tmp_path) == Threads(64, "one per core")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 9})
    assert usable_cores(tmp_path) == Threads(3, "affinity to 3 of 64 processors")
    siblings = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    pairs = {siblings.format(cpu): f"{cpu % 32},{cpu % 32 + 32}" for cpu in range(64)}
    assert usable_cores(write(tmp_path, pairs)).number == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 33, 9})
    assert usable_cores(tmp_path).number == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert usable_cores(tmp_path) == Threads(32, "one per core")


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "100"}, 100),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "3", "LOCAL_WORLD_SIZE": "4"}, 3),
        ({"OMP_NUM_THREADS": ""}, 8),
        ({"OMP_NUM_THREADS": "0"}, 8),
        ({"OMP_NUM_THREADS": "many"}, 8),
        ({"LOCAL_WORLD_SIZE": "4"}, 2),
        ({"LOCAL_WORLD_SIZE": "16"}, 1),
    ],
)
def test_the_users_number_counts_and_processes_divide_the_cores(
    tmp_path: Path, environment: dict[str, str], number: int
) -> None:
    root = write(tmp_path, {**V2, "sys/fs/cgroup/cpu.max": "800000 100000"})
    threads = chosen(environment, root)
    assert threads.number == number
    assert ("OMP_NUM_THREADS" in threads.reason) == (number in (3, 4, 100))


def test_variables_are_set_once_and_those_of_the_user_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_WAIT_POLICY")
    monkeypatch.setattr(threads, "chosen", lambda environment: Threads(2, "CPU quota"))
    monkeypatch.setattr(threads, "others_running", lambda: inf)
    for given in ({}, {"RAYON_NUM_THREADS": "5"}, {"OMP_WAIT_POLICY": "active"}):
        for name in (*names, "GOMP_SPINCOUNT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        limit_threads.cache_clear()
        assert limit_threads() == limit_threads() == Threads(2, "CPU quota")
        found = {name: os.environ[name] for name in names}
        expected = {"OMP_NUM_THREADS": "2", "RAYON_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
        assert found == {**expected, **given}
    limit_threads.cache_clear()


def test_a_number_that_openmp_cannot_read_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "chosen", lambda environment: Threads(2, "CPU quota"))
    for name in ("RAYON_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    limit_threads.cache_clear()
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    limit_threads.cache_clear()


@pytest.mark.parametrize(
    ("running", "number", "expected"),
    [
        (0, 2, "spinning 5000 turns before they sleep (GOMP_SPINCOUNT)"),
        (2, 2, "spinning 5000 turns before they sleep (GOMP_SPINCOUNT)"),
        (3, 2, "waiting passive (OMP_WAIT_POLICY)"),
        (0, 1, "waiting passive (OMP_WAIT_POLICY)"),
        (inf, 2, "waiting passive (OMP_WAIT_POLICY)"),
    ],
)
def test_threads_spin_briefly_where_processors_are_idle(
    monkeypatch: pytest.MonkeyPatch, running: float, number: int, expected: str
) -> None:
    monkeypatch.setattr(threads, "chosen", lambda environment: Threads(number, "one per core"))
    monkeypatch.setattr(threads, "usable_cpus", lambda: set(range(4)))
    monkeypatch.setattr(threads, "others_running", lambda: running)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "THP_MEM_ALLOC_ENABLE"):
        monkeypatch.delenv(name, raising=False)
    limit_threads.cache_clear()
    limit_threads()
    limit_threads.cache_clear()
    assert waiting() == expected
    assert ("GOMP_SPINCOUNT" in os.environ) != ("OMP_WAIT_POLICY" in os.environ)
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("GOMP_SPINCOUNT", "7", "spinning 7 turns before they sleep (GOMP_SPINCOUNT)"),
        ("OMP_WAIT_POLICY", "ACTIVE", "waiting active (OMP_WAIT_POLICY)"),
    ],
)
def test_the_users_way_of_waiting_stays(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    for variable in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    limit_threads.cache_clear()
    limit_threads()
    limit_threads.cache_clear()
    assert waiting() == expected


@pytest.mark.parametrize(
    ("loadavg", "others"),
    [
        ("0.10 0.20 0.30 1/300 4242", 0),
        ("9.10 0.20 0.30 4/300 4242", 3),
        ("0.10 0.20 0.30 0/300 4242", 0),
        ("nothing that is known", inf),
        ("", inf),
    ],
)
def test_what_else_runs_is_read_from_the_system(
    tmp_path: Path, loadavg: str, others: float
) -> None:
    assert others_running(write(tmp_path, {"proc/loadavg": loadavg})) == others


def test_a_system_that_does_not_tell_what_runs_counts_as_busy(tmp_path: Path) -> None:
    assert others_running(tmp_path) == inf
