"""Runs in MLflow: opening, resuming, reusing and reading them.

The tags `isogloss.*` are a contract (docs/reference/runs.md). A finished run with the same
fingerprint is reused instead of computed again; the fingerprint covers everything that decides the
result.
"""

from isogloss.tracking.artifacts import (
    artifact_path,
    log_items,
    log_predictions,
    metrics_of,
    read_predictions,
)
from isogloss.tracking.experiments import choose_experiment
from isogloss.tracking.fingerprints import data_digest, fingerprint
from isogloss.tracking.reuse import (
    find_finished,
    locked_parent,
    record_reuse,
    require_first,
    reuse_or_lock,
    studies_of,
)
from isogloss.tracking.runs import log_metrics_once, open_run
from isogloss.tracking.tags import NO_ADAPTER, RunKind, RunTags, read_tags, tag

__all__ = [
    "NO_ADAPTER",
    "RunKind",
    "RunTags",
    "artifact_path",
    "choose_experiment",
    "data_digest",
    "find_finished",
    "fingerprint",
    "locked_parent",
    "log_items",
    "log_metrics_once",
    "log_predictions",
    "metrics_of",
    "open_run",
    "read_predictions",
    "read_tags",
    "record_reuse",
    "require_first",
    "reuse_or_lock",
    "studies_of",
    "tag",
]
