"""Workers: processes that run the trials of one study together until it has enough."""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from isogloss.errors import TrainingError
from isogloss.hpo.retry import (
    REASON,
    fail_killed_trials,
    has_outcome,
    quiet_optuna,
    retry_callback,
)

logger = logging.getLogger(__name__)

STARTUP_TRIALS = 5  # drawn at random before the sampler learns from them
POLL_INTERVAL = 2.0  # seconds between two looks at the trials of other workers

Objective = Callable[[optuna.Trial], float]


@dataclass(frozen=True)
class Worker:
    """One of the workers of a study: the number of trials the study is to have, and a seed.

    The workers of one machine share the lock. A worker holds it while it takes a trial and releases
    it while it trains.
    """

    study: optuna.Study
    lock: FileLock
    trials: int
    seed: int


def run_trials(
    worker: Worker, objective: Objective, after_trial: Callable[[], None] = lambda: None
) -> None:
    """Run trials until the study has as many as `worker.trials` with an outcome.

    An objective that raises TrainingError makes its trial fail; the study continues. At the end the
    worker waits for running trials of other workers, in case one is killed and has to be retried.
    """
    waiting = False
    while True:
        with worker.lock:
            fail_killed_trials(worker.study)
            trials = worker.study.get_trials(deepcopy=False)
            finished = sum(map(has_outcome, trials))
            running = sum(trial.state == TrialState.RUNNING for trial in trials)
            if finished >= worker.trials:
                return
            needed = finished + running < worker.trials
            if needed:
                _run_trial(worker, objective, number=len(trials))
        if needed:
            after_trial()
            waiting = False
            continue
        if not waiting:
            logger.info(f"{finished} of {worker.trials} trials finished; waiting for other workers")
            waiting = True
        time.sleep(POLL_INTERVAL)


def _run_trial(worker: Worker, objective: Objective, number: int) -> None:
    """Take a trial and run it; releases the lock as soon as the trial is taken.

    A trial that is interrupted is put back into the queue. Heartbeats need `Study.optimize`.
    """
    study = worker.study
    # Seeded by number: workers that start together draw different trials, and a single worker
    # draws the same ones again.
    digest = hashlib.sha256(f"{worker.seed} {number}".encode()).digest()
    study.sampler = optuna.samplers.TPESampler(
        seed=int.from_bytes(digest[:4]), n_startup_trials=STARTUP_TRIALS
    )
    taken: list[int] = []

    def run(trial: optuna.Trial) -> float:
        taken.append(trial.number)
        _fail_surplus(worker, trial)
        worker.lock.release()
        try:
            return objective(trial)
        except TrainingError as error:
            trial.set_user_attr(REASON, str(error))
            raise

    try:
        with quiet_optuna():
            study.optimize(run, n_trials=1, catch=(TrainingError,))
    except UpdateFinishedTrialError:
        logger.info(
            f"trial {taken[0]}: another worker marked it as failed because its heartbeat "
            f"stopped; its result is discarded"
        )
    except BaseException:
        if taken:
            retry_callback()(study, study.get_trials()[taken[0]])
        raise
    trial = study.get_trials()[taken[0]]
    if trial.state == TrialState.FAIL and REASON in trial.user_attrs:
        logger.info(f"trial {trial.number} failed: {trial.user_attrs[REASON]}")


def _fail_surplus(worker: Worker, trial: optuna.Trial) -> None:
    """Raise TrainingError if another machine, which has another lock, took the last trial."""
    earlier = worker.study.get_trials(deepcopy=False)[: trial.number]
    taken = sum(has_outcome(other) or other.state == TrialState.RUNNING for other in earlier)
    if taken >= worker.trials:
        raise TrainingError("not needed: other workers have taken the last trials.")
