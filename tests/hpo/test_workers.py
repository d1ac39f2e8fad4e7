"""The trials of one study, run by one or several workers."""

import threading
import time
from pathlib import Path

import optuna
import pytest
from filelock import FileLock
from optuna.trial import TrialState

from isogloss.errors import TrainingError
from isogloss.hpo import workers
from isogloss.hpo.retry import REASON
from isogloss.hpo.storage import open_storage
from isogloss.hpo.workers import Worker, run_trials


def load_worker(trials: int, seed: int = 0) -> Worker:
    study = optuna.create_study(
        study_name="search", storage=open_storage("journal"), load_if_exists=True
    )
    return Worker(study, FileLock(Path("lock").absolute()), trials, seed)


def draw(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


def values(worker: Worker) -> list[float]:
    return [trial.params["x"] for trial in worker.study.get_trials()]


def test_trials_are_run_until_there_are_enough_and_the_lock_is_free_meanwhile() -> None:
    worker = load_worker(3)
    free: list[bool] = []

    def objective(trial: optuna.Trial) -> float:
        free.append(not worker.lock.is_locked)
        return draw(trial)

    finished: list[int] = []
    run_trials(worker, objective, lambda: finished.append(len(values(worker))))
    assert finished == [1, 2, 3]
    assert free == [True] * 3
    assert not worker.lock.is_locked
    run_trials(load_worker(3), objective)
    assert len(values(worker)) == 3
    run_trials(load_worker(4), objective)
    assert len(values(worker)) == 4


def test_draws_depend_on_the_seed_and_the_number_of_the_trial(tmp_path: Path) -> None:
    drawn = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        study = optuna.create_study()
        run_trials(Worker(study, FileLock(tmp_path / name), 3, seed), draw)
        drawn.append([trial.params["x"] for trial in study.get_trials()])
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 3


def test_a_trial_that_cannot_be_trained_fails_with_a_reason_and_counts() -> None:
    worker = load_worker(2)

    def objective(trial: optuna.Trial) -> float:
        if trial.number == 0:
            raise TrainingError("no memory")
        return draw(trial)

    run_trials(worker, objective)
    first, second = worker.study.get_trials()
    assert (first.state, first.user_attrs[REASON]) == (TrialState.FAIL, "no memory")
    assert second.state == TrialState.COMPLETE


def test_an_interrupted_trial_is_queued_again_and_does_not_count() -> None:
    worker = load_worker(1)

    def interrupt(trial: optuna.Trial) -> float:
        draw(trial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(worker, interrupt)
    assert not worker.lock.is_locked
    run_trials(load_worker(1), draw)
    assert [trial.state.name for trial in worker.study.get_trials()] == ["FAIL", "COMPLETE"]
    assert values(worker)[0] == values(worker)[1]


def test_a_worker_waits_for_the_last_trial_of_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "POLL_INTERVAL", 0.05)
    started, release = threading.Event(), threading.Event()

    def slow(trial: optuna.Trial) -> float:
        started.set()
        assert release.wait(30)
        return draw(trial)

    other = threading.Thread(target=run_trials, args=(load_worker(1), slow))
    other.start()
    assert started.wait(30)
    worker = load_worker(1)
    waiting = threading.Thread(target=run_trials, args=(worker, draw))
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive()
    release.set()
    waiting.join(30)
    other.join(30)
    assert not waiting.is_alive()
    assert [trial.state.name for trial in worker.study.get_trials()] == ["COMPLETE"]


def test_a_trial_taken_after_the_last_one_fails_without_a_result() -> None:
    worker = load_worker(1)
    # On two machines, which have a lock each. Optuna warns that heartbeats need Study.optimize.
    with pytest.warns(UserWarning, match="Heartbeat"):
        _, surplus = worker.study.ask(), worker.study.ask()
    with pytest.raises(TrainingError, match="not needed"):
        workers._fail_surplus(worker, surplus)
