"""Trials of killed workers are retried, in a journal file and in a database."""

import time
import warnings

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from isogloss.hpo import storage as storages
from isogloss.hpo.results import trial_outcome
from isogloss.hpo.retry import (
    REASON,
    fail_killed_trials,
    first_attempt,
    has_outcome,
    next_attempts,
    retry_callback,
)
from isogloss.hpo.storage import open_storage


def take(study: optuna.Study) -> optuna.Trial:
    """Take a trial and send one heartbeat for it, as a worker does that is then killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # heartbeats are for Study.optimize
        trial = study.ask()
    trial.suggest_float("learning_rate", 0.0, 1.0)
    study._storage.record_heartbeat(trial._trial_id)
    return trial


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


@pytest.mark.parametrize("storage", ["deep/journal", "sqlite:///search.db"])
def test_a_trial_without_heartbeats_fails_and_is_queued_with_the_same_parameters(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storages, "HEARTBEAT", 1)
    monkeypatch.setattr(storages, "GRACE", 1)
    study = optuna.create_study(study_name="search", storage=open_storage(storage))
    killed = take(study)
    fail_killed_trials(study)
    assert states(study) == ["RUNNING"]  # it may still be alive
    time.sleep(2.1)  # heartbeats in a database have whole seconds
    alive = take(study)
    fail_killed_trials(study)
    assert states(study) == ["FAIL", "RUNNING", "WAITING"]
    retry = take(study)
    assert retry.params == killed.params
    assert alive.params != killed.params
    trials = study.get_trials()
    assert [first_attempt(trial) for trial in trials] == [None, None, 0]
    assert next_attempts(study) == {0: 2}
    outcome = trial_outcome(trials[0], next_attempts(study)[0])
    assert outcome.reason == "its worker was killed or interrupted; tried again as trial 2"
    assert not has_outcome(trials[0])


def test_a_trial_has_three_retries() -> None:
    study = optuna.create_study()
    retry = retry_callback()
    for attempt in range(4):
        trial = study.ask()
        assert trial.number == attempt
        study.tell(trial, state=TrialState.FAIL)
        retry(study, study.get_trials()[attempt])
    assert states(study) == ["FAIL"] * 4
    assert next_attempts(study) == {0: 1, 1: 2, 2: 3}
    assert first_attempt(study.get_trials()[3]) == 0


def finished(state: TrialState, **attributes: object) -> FrozenTrial:
    value = 0.5 if state == TrialState.COMPLETE else None
    return optuna.create_trial(state=state, value=value, user_attrs=attributes)


def test_trials_count_if_they_are_complete_pruned_or_failed_with_a_reason() -> None:
    assert has_outcome(finished(TrialState.COMPLETE))
    assert has_outcome(finished(TrialState.PRUNED))
    assert has_outcome(finished(TrialState.FAIL, **{REASON: "out of memory"}))
    assert not has_outcome(finished(TrialState.FAIL))
    assert not has_outcome(optuna.create_trial(state=TrialState.WAITING))
