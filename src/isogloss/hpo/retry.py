"""Retry: what happens to trials whose worker was killed, interrupted or cut off.

A worker of a running trial sends heartbeats (see `storage`). A trial without one for GRACE seconds
is marked failed by any other worker and put back into the queue with the same hyperparameters,
MAX_RETRIES times at most. An interrupted worker (Ctrl-C) does the same for its own trial.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

MAX_RETRIES = 3
REASON = "reason"  # attribute of a trial that failed on its own: the error message

Retry = Callable[[optuna.Study, FrozenTrial], None]


def retry_callback() -> Retry:
    """A function that puts a failed trial back into the queue, unless it is the last attempt."""
    with quiet_optuna():
        retry: Retry = RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)
    return retry


def fail_killed_trials(study: optuna.Study) -> None:
    """Mark running trials without a recent heartbeat as failed, and put them into the queue."""
    with quiet_optuna():
        optuna.storages.fail_stale_trials(study)


def has_outcome(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards the number requested: complete, pruned, or failed on its own.

    Trials of killed workers do not: they are retried.
    """
    if trial.state == TrialState.FAIL:
        return REASON in trial.user_attrs
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def first_attempt(trial: FrozenTrial) -> int | None:
    """The number of the trial that this one retries; None if it is not a retry."""
    number: int | None = trial.system_attrs.get("failed_trial")
    return number


def next_attempts(study: optuna.Study) -> dict[int, int]:
    """By number of each retried trial, the number of its next attempt."""
    return {
        trial.system_attrs["retry_history"][-1]: trial.number
        for trial in study.get_trials(deepcopy=False)
        if trial.system_attrs.get("retry_history")
    }


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Context without Optuna's warnings that heartbeats are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
