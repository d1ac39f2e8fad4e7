"""Runs that an error or a signal breaks off end, whatever else fails at the same time."""

import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.tracking import fluent

from isogloss.config import EvaluateConfig
from isogloss.errors import TrackingError
from isogloss.tracking import RunKind, ending, open_run
from isogloss.tracking.ending import free_memory, insist
from isogloss.tracking.resume import WorkDir

CONFIG = EvaluateConfig(limit=3)
LOCKED = MlflowException("database is locked", TEMPORARILY_UNAVAILABLE)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after half a second."""
    monkeypatch.setattr(ending, "SHORTAGE", 0.5)
    monkeypatch.setattr(ending, "PAUSE", 0.05)


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    (tmp_path / "work").mkdir()
    return WorkDir(tmp_path / "work")


def statuses() -> list[str]:
    runs = mlflow.search_runs(output_format="list", search_all_experiments=True)
    return [run.info.status for run in runs]


def failing(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *errors: BaseException
) -> None:
    """Let a function raise these errors, one call after another, and then do what it does."""
    left = list(errors)
    function: Callable[..., object] = getattr(owner, name)

    def called(*args: object, **options: object) -> object:
        if left:
            raise left.pop(0)
        return function(*args, **options)

    monkeypatch.setattr(owner, name, called)


def broken_off(
    error: type[BaseException], before: Callable[[], None], work: WorkDir | None = None
) -> None:
    """Open a run and raise an error in it."""
    with open_run(RunKind.EVALUATE, "base", CONFIG, {}, None, work):
        before()
        raise error


@pytest.mark.parametrize("problem", [MemoryError(), LOCKED, OSError(12, "no memory")])
@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")]
)
def test_a_status_that_cannot_be_written_for_a_moment_is_written_then(
    error: type[BaseException],
    status: str,
    problem: BaseException,
    work: WorkDir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse = partial(failing, monkeypatch, mlflow.MlflowClient, "set_terminated", problem, problem)
    with pytest.raises(error):
        broken_off(error, refuse, work)
    assert statuses() == [status]
    assert mlflow.active_run() is None


def test_a_status_that_is_never_written_is_told_and_mlflow_does_not_finish_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse = partial(
        failing, monkeypatch, mlflow.MlflowClient, "set_terminated", *[MemoryError()] * 1000
    )
    with pytest.raises(KeyboardInterrupt):
        broken_off(KeyboardInterrupt, refuse)
    assert "may be left as running (MemoryError())" in caplog.text
    assert statuses() == ["RUNNING"]
    assert mlflow.active_run() is None


def test_an_outer_run_ends_although_the_inner_one_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    end = mlflow.MlflowClient.set_terminated

    def inner() -> None:
        refused = mlflow.active_run().info.run_id

        def set_terminated(self: mlflow.MlflowClient, run_id: str, *args: object) -> None:
            if run_id == refused:
                raise LOCKED
            end(self, run_id, *args)

        monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", set_terminated)

    def outer() -> None:
        with open_run(RunKind.STUDY, "study", CONFIG, {}):
            broken_off(KeyboardInterrupt, inner)

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert sorted(statuses()) == ["KILLED", "RUNNING"]
    assert mlflow.active_run() is None


def test_a_run_that_cannot_be_recorded_ends(work: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(28, "No space left on device")
    failing(monkeypatch, WorkDir, "record_run", KeyboardInterrupt(), *[full] * 1000)
    with pytest.raises(KeyboardInterrupt), open_run(RunKind.EVALUATE, "b", CONFIG, {}, None, work):
        pass
    assert statuses() == ["KILLED"]


def test_ctrl_c_while_a_run_ends_is_raised_when_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = mlflow.MlflowClient
    interrupt = partial(failing, monkeypatch, client, "set_terminated", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        broken_off(ValueError, interrupt)
    assert statuses() == ["FAILED"]
    assert mlflow.active_run() is None


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (MemoryError(), "FAILED")]
)
def test_a_run_that_mlflow_has_created_and_not_named_ends(
    error: BaseException,
    status: str,
    work: WorkDir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, fluent, "ActiveRun", error)
    with (
        pytest.raises(type(error)),
        open_run(RunKind.EVALUATE, "base", CONFIG, {"fingerprint": "f" * 64}, None, work),
    ):
        pass
    assert statuses() == [status]
    with open_run(RunKind.EVALUATE, "base", CONFIG, {"fingerprint": "f" * 64}, None, work):
        pass
    left = [status] if status == "FAILED" else []  # a killed run is resumed
    assert sorted(statuses()) == [*left, "FINISHED"]


def test_a_run_that_is_resumed_and_not_named_ends(
    work: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LookupError):
        broken_off(LookupError, lambda: None, work)
    failing(monkeypatch, fluent, "ActiveRun", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), open_run(RunKind.EVALUATE, "b", CONFIG, {}, None, work):
        pass
    assert statuses() == ["KILLED"]


def test_only_the_run_that_was_being_opened_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_run(RunKind.STUDY, "study", CONFIG, {}) as outer:
        failing(monkeypatch, fluent, "ActiveRun", MemoryError())
        with pytest.raises(MemoryError), open_run(RunKind.STUDY, "inner", CONFIG, {}):
            pass
        assert mlflow.active_run().info.run_id == outer.info.run_id
        assert sorted(statuses()) == ["FAILED", "RUNNING"]
    assert sorted(statuses()) == ["FAILED", "FINISHED"]


@pytest.mark.parametrize("problem", [MemoryError(), LOCKED])
def test_a_whole_run_that_cannot_be_finished_for_a_moment_is_finished_then(
    problem: BaseException, work: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_run(RunKind.EVALUATE, "base", CONFIG, {}, None, work):
        failing(monkeypatch, mlflow.MlflowClient, "set_terminated", problem)
    assert statuses() == ["FINISHED"]


def test_a_whole_run_is_finished_although_it_is_interrupted(
    work: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt), open_run(RunKind.EVALUATE, "b", CONFIG, {}, None, work):
        failing(monkeypatch, mlflow.MlflowClient, "set_terminated", KeyboardInterrupt())
    assert statuses() == ["FINISHED"]


def test_a_store_that_takes_no_status_is_an_error_of_the_upload(
    work: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrackingError), open_run(RunKind.EVALUATE, "b", CONFIG, {}, None, work):
        failing(monkeypatch, mlflow.MlflowClient, "set_terminated", *[LOCKED] * 1000)
    assert mlflow.active_run() is None


def test_a_run_whose_context_is_thrown_away_ends_as_killed() -> None:
    opened = open_run(RunKind.EVALUATE, "base", CONFIG, {})
    opened.__enter__()
    opened.gen.close()  # as Python does if a signal comes before the body of `with`
    assert statuses() == ["KILLED"]


def test_memory_of_the_error_is_freed_before_another_try() -> None:
    class Big:
        alive = 0

        def __init__(self) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    def work() -> None:
        held = Big()
        raise MemoryError(str(held))

    seen: list[int] = []

    def action() -> None:
        seen.append(Big.alive)
        if len(seen) == 1:
            raise MemoryError

    with pytest.raises(MemoryError) as raised:
        work()
    assert insist(action, raised.value) is None
    assert seen == [1, 0]


@pytest.mark.parametrize("name", ["in_a_hurry", "_is_lasting", "is_interruption"])
def test_memory_may_be_short_for_what_surrounds_the_status(
    name: str, work: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, ending, name, MemoryError(), MemoryError())
    refuse = partial(failing, monkeypatch, mlflow.MlflowClient, "set_terminated", LOCKED)
    with pytest.raises(KeyboardInterrupt):
        broken_off(KeyboardInterrupt, refuse, work)
    assert statuses() == ["KILLED"]
    assert mlflow.active_run() is None


def test_mlflow_does_not_finish_a_run_because_memory_was_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, ending, "leave_run", MemoryError(), MemoryError())
    refuse = partial(failing, monkeypatch, ending, "in_a_hurry", *[MemoryError()] * 1000)
    with pytest.raises(KeyboardInterrupt):
        broken_off(KeyboardInterrupt, refuse)
    assert statuses() == ["RUNNING"]
    assert mlflow.active_run() is None


def test_ctrl_c_between_two_tries_does_not_keep_the_run_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        failing(monkeypatch, mlflow.MlflowClient, "set_terminated", LOCKED)
        failing(monkeypatch, ending.time, "sleep", KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        broken_off(ValueError, refuse)
    assert statuses() == ["FAILED"]
    assert mlflow.active_run() is None


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_an_error_in_place_of_an_interruption_is_one(error: type[Exception], work: WorkDir) -> None:
    def interrupted() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise error from None

    with pytest.raises(error):
        broken_off(error, interrupted, work)
    assert statuses() == ["KILLED"]
    assert work.run_id is not None


def test_memory_is_freed_that_an_earlier_error_holds() -> None:
    class Big:
        pass

    held: list[weakref.ref[Big]] = []

    def first() -> None:
        big = Big()
        held.append(weakref.ref(big))
        raise KeyError

    def second() -> None:
        try:
            first()
        except KeyError:
            raise MemoryError from None

    with pytest.raises(MemoryError) as raised:
        second()
    assert held[0]() is not None
    free_memory(raised.value)
    assert held[0]() is None


def test_a_reserve_is_released_before_another_try() -> None:
    with open_run(RunKind.EVALUATE, "base", CONFIG, {}):
        assert [len(block) for block in ending._reserve] == [ending.RESERVE]
    seen: list[int] = []

    def action() -> None:
        seen.append(len(ending._reserve))
        if len(seen) == 1:
            raise MemoryError

    assert insist(action) is None
    assert seen == [1, 0]
