"""Errors a user can cause.

IsoglossError
├── ConfigError     a parameter, a study file or a language code that cannot be used
├── DataError       evaluation data that is missing, malformed or not parallel
├── ModelError      a model or adapter that cannot be found or does not fit
├── TrainingError   training that ran out of memory or whose loss is no number
├── TrackingError   MLflow, where results could not be sent to it
├── ProcessError    another of several processes that compute together, which is gone
└── ComparisonError runs that are missing or may not be compared with one another

Each is one sentence that names the value given and what would be accepted. Entry points print it
and exit with status 2.
"""


class IsoglossError(Exception):
    """Base of every error that a user can cause and correct."""


class ConfigError(IsoglossError):
    """A parameter, a study file or a language code that cannot be used."""


class DataError(IsoglossError):
    """Evaluation data that is missing, malformed or not parallel."""


class ModelError(IsoglossError):
    """A model or adapter that cannot be found or does not fit."""


class TrainingError(IsoglossError):
    """Training that ran out of memory or whose loss is no number."""


class TrackingError(IsoglossError):
    """MLflow could not be reached; what was computed is on disk."""


class ProcessError(IsoglossError):
    """Another of several processes that compute together has ended."""


class ComparisonError(IsoglossError):
    """Runs that are missing or may not be compared with one another."""
