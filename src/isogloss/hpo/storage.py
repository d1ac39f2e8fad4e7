"""What a search needs of Optuna and Optuna does not have: signs of life of workers that share a
journal file, and pruning by paired items one measurement at a time.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.pruners import BasePruner
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
)
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from isogloss.compat import public_only
from isogloss.errors import ConfigError

Retry = Callable[[optuna.Study, FrozenTrial], None]
HEARTBEAT = 5  # seconds between two signs of life
GRACE = 30  # seconds without one after which a trial counts as killed
RETRIES = 3
ATTEMPTS = 3  # to open a database
# Steps reported to Optuna are MEASUREMENT * the number of a dev measurement + that of a passage.
# The last of a measurement is the mean, by which the sampler ranks pruned trials.
MEASUREMENT = 1_000_000
MEAN = MEASUREMENT - 1


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Context without Optuna's warnings that signs of life are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def open_storage(storage: str) -> tuple[BaseStorage, Retry]:
    """A journal file, or any database that SQLAlchemy reaches where `storage` is a URL; and what
    puts a trial in the queue again.

    A trial whose worker gives no sign of life for GRACE seconds is failed and put in the queue
    again, RETRIES times at most. ConfigError if the database cannot be reached.
    """
    with quiet_optuna():
        retry = RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)
    if "://" not in storage:
        Path(storage).parent.mkdir(parents=True, exist_ok=True)
        return _open_journal(Path(storage), retry), retry
    from sqlalchemy.exc import SQLAlchemyError

    for attempt in range(ATTEMPTS):
        try:
            with quiet_optuna():
                return RDBStorage(
                    storage,
                    heartbeat_interval=HEARTBEAT,
                    grace_period=GRACE,
                    heartbeat_stale_trial_callback=retry,
                ), retry
        except (SQLAlchemyError, ImportError, ValueError) as error:
            # Workers that start at once on several machines get into each other's way when they
            # make the tables.
            if attempt == ATTEMPTS - 1:
                hint = "; a database in PostgreSQL is postgresql+psycopg2://USER@HOST/NAME"
                raise ConfigError(
                    f"storage {storage!r} cannot be used ({str(error).strip().splitlines()[0]})"
                    f"{hint if storage.startswith('postgres') else ''}."
                ) from error
            time.sleep(1)
    raise AssertionError


def _open_journal(path: Path, retry: Retry) -> JournalStorage:
    """A journal file with heartbeats; without them if only public interfaces may be used."""
    if public_only():
        return JournalStorage(JournalFileBackend(str(path)))
    from isogloss.compat.optuna import HeartbeatJournal

    return HeartbeatJournal(path, retry, interval=HEARTBEAT, grace=GRACE)


class PairedPruner(BasePruner):
    """Prunes a trial that is worse than the best one at the same stage of its training.

    The pairs are dev passages, whose scores are what is reported: the one-sided Wilcoxon test of
    Optuna's WilcoxonPruner, on the newest stage alone. (That one would take a passage's scores at
    several stages as independent, and compare their mean with one over all stages of the best
    trial.) No trial is pruned before `startup` have been completed. `level` is that of each test:
    0.02 makes 0.05 over three of them (Pocock 1977). Below `fewest` pairs none is made.
    """

    def __init__(self, startup: int = 5, level: float = 0.02, fewest: int = 8) -> None:
        self.startup = startup
        self.level = level
        self.fewest = fewest

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial is worse than the best one."""
        if not trial.intermediate_values:
            return False
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(completed) < max(self.startup, 1):
            return False
        best = study.best_trial.intermediate_values
        stage = max(trial.intermediate_values) // MEASUREMENT
        differences = [
            value - best[step]
            for step, value in trial.intermediate_values.items()
            if step // MEASUREMENT == stage and step in best and step % MEASUREMENT != MEAN
        ]
        if len(differences) < self.fewest or sum(differences) >= 0:
            return False
        found = stats.wilcoxon(differences, alternative="less", zero_method="zsplit")
        return bool(found.pvalue < self.level)
