"""Optuna: heartbeats of workers that share a journal file."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from isogloss.compat.optuna import HeartbeatJournal

MOVED = (
    "Optuna no longer asks a storage for stale trials through `BaseHeartbeat`: trials of killed "
    "workers are not repeated when they share a journal file. Use a database, which has Optuna's "
    "own heartbeats, until compat/optuna.py has another way."
)


def journal(path: Path, retried: list[int], grace: int = 30) -> HeartbeatJournal:
    return HeartbeatJournal(
        path, lambda study, trial: retried.append(trial.number), interval=1, grace=grace
    )


@pytest.mark.filterwarnings("ignore:Heartbeat of storage:UserWarning")
def test_a_trial_without_heartbeat_is_failed_and_handed_to_the_retry(tmp_path: Path) -> None:
    retried: list[int] = []
    storage = journal(tmp_path / "journal.log", retried)
    study = optuna.create_study(storage=storage, study_name="search")
    killed, alive = study.ask(), study.ask()
    for trial in (killed, alive):
        storage.record_heartbeat(trial._trial_id)
    long_ago = time.time() - 60
    os.utime(tmp_path / "journal.log.alive" / str(killed._trial_id), (long_ago, long_ago))
    study.optimize(lambda trial: 0.0, n_trials=1)
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.FAIL, TrialState.RUNNING, TrialState.COMPLETE], MOVED
    assert retried == [killed.number], MOVED


def test_a_running_trial_sends_heartbeats(tmp_path: Path) -> None:
    storage = journal(tmp_path / "journal.log", [])
    study = optuna.create_study(storage=storage, study_name="search")
    study.optimize(lambda trial: 0.0, n_trials=1)
    (trial,) = study.get_trials()
    assert (tmp_path / "journal.log.alive" / str(trial._trial_id)).exists(), MOVED


def test_the_public_path_is_optunas_journal_and_holds_the_same_trials(tmp_path: Path) -> None:
    from isogloss.hpo.storage import open_storage

    def search(storage: object) -> list[tuple[dict[str, float], float | None]]:
        study = optuna.create_study(
            storage=storage, study_name="search", sampler=optuna.samplers.TPESampler(seed=0)
        )
        study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=12)
        return [(trial.params, trial.value) for trial in study.get_trials()]

    private = open_storage(str(tmp_path / "private.log"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOGLOSS_PUBLIC_INTERFACES", "1")
        public = open_storage(str(tmp_path / "public.log"))
    assert isinstance(private, HeartbeatJournal)
    assert type(public) is JournalStorage
    assert search(public) == search(private)
    assert not (tmp_path / "public.log.alive").exists()


def test_the_public_path_does_not_import_the_private_module(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import sys
        from isogloss.hpo.storage import open_storage
        open_storage({str(tmp_path / "journal.log")!r})
        assert "isogloss.compat.optuna" not in sys.modules
        """
    )
    environment = {
        **os.environ,
        "ISOGLOSS_PUBLIC_INTERFACES": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
