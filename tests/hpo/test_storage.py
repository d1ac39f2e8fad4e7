"""Journals: a worker that was killed while it held Optuna's lock does not stop the others."""

import os
import time
from pathlib import Path

import optuna
import pytest

from isogloss.hpo.storage import GRACE, open_storage


@pytest.mark.parametrize("storage", ["journal", "deep/journal", "deep/./er/journal"])
def test_the_lock_of_a_killed_worker_is_released_by_the_next(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_storage(storage)
    lock = opened._backend._lock  # type: ignore[attr-defined]
    lock.acquire()  # and the worker is killed
    assert Path(f"{storage}.lock").exists()  # Optuna reads the age of what it leads to
    monkeypatch.setattr(lock, "grace_period", 1)
    began, used = time.monotonic(), time.process_time()
    optuna.create_study(study_name="s", storage=opened)
    assert time.monotonic() - began >= 1
    assert time.process_time() - used < 0.8 * (time.monotonic() - began)  # it sleeps meanwhile
    assert not Path(f"{storage}.lock").is_symlink()


@pytest.mark.parametrize(("age", "removed"), [(GRACE + 5, True), (0, False)])
@pytest.mark.parametrize("name", ["journal.lock", "journal.lock0a9c5a86-bc50.rename"])
def test_a_lock_that_leads_nowhere_or_was_being_released_is_removed_unless_it_is_new(
    name: str, age: float, removed: bool, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    link = tmp_path / "deep" / name
    link.symlink_to("deep/journal")  # as earlier versions made it
    at = time.time() - age
    os.utime(link, (at, at), follow_symlinks=False)
    open_storage("deep/journal")
    assert link.is_symlink() != removed
