"""Errors that a user can cause.

IsoglossError
├── ConfigError     an invalid parameter, study file or language code
├── DataError       evaluation data that is missing, malformed or not parallel
├── ModelError      a model or adapter that cannot be found or does not fit
├── ServerError     items that an inference server gave no answer about
├── TrainingError   training that ran out of memory or diverged
├── TrackingError   results that could not be sent to MLflow
│   └── LeaseLostError  work that another process has taken over
├── ProcessError    a process of a group that computes together has ended
├── StudyError      cells of a study that failed while others finished
└── ComparisonError runs that are missing or must not be compared

Each message is one sentence that names the value and what is accepted. Entry points print it and
exit with status 2.
"""


class IsoglossError(Exception):
    """Base of every error that a user can cause and correct."""


class ConfigError(IsoglossError):
    """An invalid parameter, study file or language code."""


class DataError(IsoglossError):
    """Evaluation data that is missing, malformed or not parallel."""


class ModelError(IsoglossError):
    """A model or adapter that cannot be found or does not fit."""


class ServerError(IsoglossError):
    """Items that an inference server gave no answer about; the others' answers are on disk."""


class TrainingError(IsoglossError):
    """Training that ran out of memory or diverged."""


class TrackingError(IsoglossError):
    """MLflow could not be reached; the results are on disk."""


class LeaseLostError(TrackingError):
    """Another process has taken over the work of this one; see `tracking.leases`."""


class ProcessError(IsoglossError):
    """A process of a group that computes together has ended."""


class ComparisonError(IsoglossError):
    """Runs that are missing or must not be compared."""


class StudyError(IsoglossError):
    """Cells of a study that failed while others finished."""


def is_interruption(error: BaseException | None) -> bool:
    """Whether an error is a KeyboardInterrupt, or was raised while one was handled.

    A library may raise an error of its own in its place, and Python a MemoryError.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
