"""Optuna: heartbeats for workers that share a journal file.

Optuna has heartbeats for databases only. Relies on `optuna.storages._heartbeat.BaseHeartbeat`. The
public path is Optuna's journal without heartbeats, which does not repeat the trial of a killed
worker.
"""

import os
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

Retry = Callable[[optuna.Study, FrozenTrial], None]


class HeartbeatJournal(JournalStorage, BaseHeartbeat):
    """A journal file whose workers send heartbeats, as those of an RDBStorage do.

    A heartbeat is the modification time of one file per trial, beside the journal, so workers on
    several machines with one file system share one clock. `retry` is called with a trial whose last
    heartbeat is more than `grace` seconds old; workers send one every `interval` seconds.
    """

    def __init__(self, path: Path, retry: Retry, *, interval: int, grace: int) -> None:
        super().__init__(JournalFileBackend(str(path)))
        self._folder = path.with_name(f"{path.name}.alive")
        self._retry = retry
        self._interval = interval
        self._grace = grace

    def record_heartbeat(self, trial_id: int) -> None:
        """Update the file of a trial."""
        self._folder.mkdir(exist_ok=True)
        (self._folder / str(trial_id)).touch()

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Running trials without a recent heartbeat, by the clock of the file system."""
        self.record_heartbeat(-os.getpid())
        now = (self._folder / str(-os.getpid())).stat().st_mtime
        stale = []
        for trial in self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
            trial_id = self.get_trial_id_from_study_id_trial_number(study_id, trial.number)
            heartbeat = self._folder / str(trial_id)
            if not heartbeat.exists():  # started a moment ago, or killed before its first heartbeat
                heartbeat.touch()
            elif now - heartbeat.stat().st_mtime > self._grace:
                stale.append(trial_id)
        return stale

    def get_heartbeat_interval(self) -> int:
        """Seconds between two heartbeats."""
        return self._interval

    def get_heartbeat_stale_trial_callback(self) -> Retry:
        """The function that is called with the trial of a killed worker."""
        return self._retry
