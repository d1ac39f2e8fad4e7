"""Leases of pieces of work: one holder at a time, taken over when it is gone, and fenced."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import psutil
import pytest
import sqlalchemy as sql
from mlflow.entities import Run

from isogloss import process_ids
from isogloss.compat import mlflow as compat
from isogloss.config import EvaluateConfig
from isogloss.errors import ConfigError, LeaseLostError, TrackingError
from isogloss.tracking import RunKind, lease_table, leases, open_run, reuse_or_lock
from isogloss.tracking.lease_table import Database
from isogloss.tracking.leases import Lease, lease, lease_url, local_exclusion
from isogloss.tracking.resume import WorkDir, locked_work_dir, work_folder, work_root

ROOT = Path(__file__).parents[2]
NAME = "evaluate-" + "f" * 64


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_LEASE_SECONDS", "1")


@pytest.fixture
def database() -> Database:
    return Database(str(lease_url()))


def row() -> dict[str, object] | None:
    found = leases._database(str(lease_url())).read(NAME)
    return None if found is None else dict(found)


def stopped(held: Lease) -> None:
    """What SIGSTOP does to the thread that renews a lease, and the time that passes meanwhile."""
    held._ended.set()
    time.sleep(1.2)
    held._ended.clear()


def test_a_lease_is_held_renewed_and_forgotten() -> None:
    with lease(NAME) as held:
        first = row()
        assert first is not None
        assert (first["holder"], first["attempt"], first["pid"]) == (held.holder, 1, os.getpid())
        assert (held.left, held.taken_over) == (None, False)
        before, deadline = float(str(first["expires"])), time.monotonic() + 20
        while float(str(row()["expires"])) < before + 1:  # type: ignore[index]
            assert time.monotonic() < deadline, "the lease was not renewed"
            time.sleep(0.05)
        held.require()
    assert row() is None


def test_a_lease_is_renewed_after_a_moment_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    renew, calls = Lease.renew, []

    def short_of_memory(held: Lease) -> None:
        calls.append(held)
        if len(calls) == 1:
            raise MemoryError
        renew(held)

    monkeypatch.setattr(Lease, "renew", short_of_memory)
    with lease(NAME):
        deadline = time.monotonic() + 20
        while len(calls) < 2:
            assert time.monotonic() < deadline, "the thread that renews it has ended"
            time.sleep(0.05)


def test_an_error_frees_the_lease_and_keeps_the_run() -> None:
    with pytest.raises(OSError, match="disk"), lease(NAME) as held:  # noqa: PT012
        held.record_run("a" * 32)
        raise OSError("disk")
    with lease(NAME) as held:
        assert (held.left, held.left_whole, held.taken_over) == ("a" * 32, False, False)


def test_of_many_threads_one_holds_the_lease_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_LEASE_SECONDS", "60")  # longer than a slow machine takes
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with lease(NAME):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_an_expired_lease_is_taken_over_and_its_holder_may_not_publish(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with lease(NAME) as first:
        first.record_run("a" * 32)
        stopped(first)
        with lease(NAME) as second:
            assert (second.left, second.taken_over) == ("a" * 32, True)
            with pytest.raises(LeaseLostError, match=r"taken over evaluate-f+, because this one"):
                first.commit("a" * 32)
            second.commit("b" * 32)
            assert first.is_anothers("b" * 32)
            assert not first.is_anothers("a" * 32)
        with pytest.raises(LeaseLostError):
            first.require()
    assert "no longer computes evaluate-ffffffffffff; this one takes over" in caplog.text
    assert row() is None


def test_a_lease_that_expired_and_that_nobody_took_is_renewed() -> None:
    with lease(NAME) as held:
        stopped(held)
        held.require()
        held.commit("a" * 32)
        assert not held.lost


def test_a_run_that_was_committed_by_a_holder_that_died_is_known_to_be_whole() -> None:
    with lease(NAME) as first:
        first.commit("a" * 32)
        stopped(first)
        with lease(NAME) as second:
            assert (second.left, second.left_whole) == ("a" * 32, True)


HOLD = """
import os, time
from isogloss.tracking.leases import lease
with lease({name!r}):
    print("held", flush=True)
    time.sleep(60)
"""
CREATE = """
import sys
from isogloss.tracking.lease_table import Database
for url in sys.stdin:
    Database(url.strip())
    print("created", flush=True)
"""


@contextmanager
def python(code: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A program that is killed at the end of the context."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1",
             "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), **variables},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.real
def test_a_killed_holder_of_this_machine_is_followed_at_once_and_a_stopped_one_in_time() -> None:
    code = HOLD.format(name=NAME)
    with python(code, ISOGLOSS_LEASE_SECONDS="3000") as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "held\n"
        killed.send_signal(signal.SIGKILL)
        began = time.monotonic()
        with lease(NAME) as held:
            assert time.monotonic() - began < 10  # of 3000 seconds
            assert held.taken_over
    with python(code, ISOGLOSS_LEASE_SECONDS="2") as halted:
        assert halted.stdout is not None
        assert halted.stdout.readline() == "held\n"
        halted.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with lease(NAME):
            assert 1 < time.monotonic() - began < 10
            halted.send_signal(signal.SIGCONT)
            time.sleep(0.8)  # it renews every half second
            now = row()
            assert now is not None
            assert now["pid"] == os.getpid()


def test_another_machine_is_dead_only_when_its_lease_is_over(database: Database) -> None:
    gone = lease_table.Holder("x", "elsewhere", "another machine", 1, "no such start")
    database.add(NAME)
    assert database.take(NAME, gone, 2.0, None)
    began = time.monotonic()
    with lease(NAME):
        assert time.monotonic() - began > 1.2


def test_a_number_of_a_process_that_another_one_has_now_is_no_sign_of_life() -> None:
    assert process_ids.started_at(os.getpid()) == lease_table.Holder.here().started != ""
    own = {"machine": process_ids.machine(), "pid": os.getpid(), "started": "1"}
    assert lease_table.is_gone(own)  # type: ignore[arg-type]
    child = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert process_ids.started_at(child.pid) == ""
    child.wait()


def test_a_wrong_clock_of_a_machine_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    with lease(NAME) as held:
        monkeypatch.setattr(time, "time", lambda: real() + 86_400)
        other = leases._database(str(lease_url()))
        assert not other.take(NAME, lease_table.Holder.here(), 1.0, None)
        monkeypatch.setattr(time, "time", lambda: real() - 86_400)
        assert not other.take(NAME, lease_table.Holder.here(), 1.0, None)
        held.commit("a" * 32)


@pytest.mark.real
def test_two_processes_create_the_table_at_once_five_times(tmp_path: Path) -> None:
    with python(CREATE) as one, python(CREATE) as other:
        for trial in range(5):
            for process in (one, other):
                assert process.stdin is not None
                process.stdin.write(f"sqlite:///{tmp_path}/{trial}.db\n")
                process.stdin.flush()
            for process in (one, other):
                assert process.stdout is not None
                assert process.stdout.readline() == "created\n"


def test_the_table_does_not_disturb_mlflow(database: Database) -> None:
    tables = sql.inspect(database.engine).get_table_names()
    assert {"isogloss_leases", "runs"} <= set(tables)
    assert mlflow.MlflowClient(str(lease_url())).search_experiments()


def test_where_leases_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert lease_url() == f"sqlite:///{tmp_path}/mlflow.db"
    assert local_exclusion() is None
    monkeypatch.setenv("ISOGLOSS_LEASES", "sqlite:///own.db")
    assert lease_url() == f"sqlite:///{tmp_path}/own.db"
    monkeypatch.setenv("ISOGLOSS_LEASES", "redis://me:secret@host/0")
    with pytest.raises(ConfigError, match=r"ISOGLOSS_LEASES must begin with") as refused:
        lease_url()
    assert "secret" not in str(refused.value)
    monkeypatch.delenv("ISOGLOSS_LEASES")
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    assert lease_url() is None
    assert "set ISOGLOSS_LEASES to a database" in str(local_exclusion())
    with lease(NAME) as held:  # then the file lock alone excludes
        held.require()
        held.commit("a" * 32)
        assert not held.is_anothers("a" * 32)


@pytest.mark.parametrize("text", ["0", "soon", "nan", "1e9"])
def test_the_length_of_a_lease_has_bounds(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_LEASE_SECONDS", text)
    with pytest.raises(ConfigError, match=f"between 1 and 86400 but is '{text}'"):
        leases.lease_seconds()


def test_a_password_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg2://me:se%40cret@127.0.0.1:1/leases?sslmode=disable"
    monkeypatch.setenv("ISOGLOSS_LEASES", url)
    monkeypatch.setattr(lease_table, "CREATION_ATTEMPTS", 1)
    with pytest.raises(TrackingError, match=r"leases cannot be kept in postgresql") as refused:
        Database(url)
    assert "cret" not in str(refused.value)


CONFIG = EvaluateConfig(model="m")


def test_a_holder_that_was_stopped_does_not_double_a_run() -> None:
    """The first loses its lease in the middle; the second finishes; the first's run is killed."""

    def attempt(inside: Callable[[WorkDir], None]) -> Run | None:
        with reuse_or_lock(RunKind.EVALUATE, "f" * 64, None) as (work, run):
            if run:
                return run
            tags = {"fingerprint": "f" * 64, "adapter": "none"}
            with open_run(RunKind.EVALUATE, "base", CONFIG, tags, None, work) as opened:
                inside(work)
                mlflow.log_dict({}, "predictions.parquet")
            return mlflow.get_run(opened.info.run_id)

    second: list[Run | None] = []

    def stop_and_let_another_do_it(work: WorkDir) -> None:
        stopped(work.lease)
        # As on a machine that does not share the folder of unfinished work.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ISOGLOSS_UNFINISHED", str(Path("elsewhere").absolute()))
            thread = threading.Thread(target=lambda: second.append(attempt(lambda work: None)))
            thread.start()
            thread.join()

    with pytest.raises(LeaseLostError):
        attempt(stop_and_let_another_do_it)
    assert second[0] is not None
    states = {
        run.info.run_id: run.info.status
        for run in mlflow.search_runs(output_format="list", search_all_experiments=True)
    }
    assert sorted(states.values()) == ["FINISHED", "KILLED"]
    assert states[second[0].info.run_id] == "FINISHED"


def test_a_run_is_finished_by_the_next_process_if_its_own_died_after_committing() -> None:
    with (  # noqa: PT012
        pytest.raises(OSError, match="killed"),
        locked_work_dir(RunKind.FINETUNE, "f" * 64) as work,
    ):
        run = mlflow.start_run(tags={"isogloss.kind": "finetune", "isogloss.fingerprint": "f" * 64})
        work.record_run(run.info.run_id)
        work.lease.commit(run.info.run_id)
        compat.leave_run()  # the process ends here
        raise OSError("killed")
    assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"
    with reuse_or_lock(RunKind.FINETUNE, "f" * 64, None) as (_, found):
        assert found is not None
        assert (found.info.run_id, found.info.status) == (run.info.run_id, "FINISHED")


def test_a_killed_run_whose_results_are_not_here_ends_killed_with_the_reason() -> None:
    with pytest.raises(OSError, match="killed"), lease("finetune-" + "f" * 64) as held:  # noqa: PT012
        run = mlflow.start_run()
        held.record_run(run.info.run_id)
        compat.leave_run()
        raise OSError("killed")
    with reuse_or_lock(RunKind.FINETUNE, "f" * 64, None) as (work, found):
        assert (found, work.run_id) == (None, None)
    ended = mlflow.get_run(run.info.run_id)
    assert ended.info.status == "KILLED"
    assert ended.data.tags["isogloss.reason"] == "its process ended, and another began again"


def test_unfinished_work_is_in_the_cache_by_store_and_an_older_folder_is_used_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ISOGLOSS_UNFINISHED")
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    here = work_root()
    assert here.parent == tmp_path / "cache" / "unfinished"
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert work_root() == here
    mlflow.set_tracking_uri("sqlite:///../mlflow.db")
    assert work_root() == here
    roots = set()
    for login in ("", "me@", "me:secret@"):
        mlflow.set_tracking_uri(f"http://{login}127.0.0.1:1/mlflow/")
        roots.add(work_root())
    assert len(roots) == 1
    assert here not in roots
    former = Path("unfinished") / "finetune-ffffffffffff"
    assert work_folder(former.name) == work_root() / former.name
    former.mkdir(parents=True)
    assert work_folder(former.name) == former.absolute()
