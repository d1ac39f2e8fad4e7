"""The run that `mlflow run` opens before a command starts: its name, links and end."""

import os
from contextlib import suppress
from enum import StrEnum

import mlflow
from mlflow.entities import Run

from isogloss.compat.mlflow import is_random_name
from isogloss.tracking.experiments import PROJECT_RUN
from isogloss.tracking.search import find_runs
from isogloss.tracking.server import UNREACHABLE, no_retries
from isogloss.tracking.tags import PREFIX, prefixed

NAME_TAG = "mlflow.runName"
NOTE_TAG = "mlflow.note.content"  # shown as the description of a run, in Markdown
REFUSED = "refused"  # the kind of a run whose command was refused
ENTRY_POINT = "mlflow.project.entryPoint"


class Link(StrEnum):
    """Tag of a run that `mlflow run` opened and that another run stands in for."""

    RESUMES = "resumes"
    REUSES = "reuses"

    @property
    def participle(self) -> str:
        """What the other run is: a word in the name of a run."""
        return "resumed" if self is Link.RESUMES else "reused"


def project_run() -> Run | None:
    """The run that `mlflow run` has opened for this process, unless it is active already."""
    run_id = os.environ.get(PROJECT_RUN)
    return mlflow.get_run(run_id) if run_id and mlflow.active_run() is None else None


def name_project_run(name: str) -> None:
    """Give the run that `mlflow run` has opened a name, unless its user gave one (--run-name).

    The name of an entry point, which the run has at first, is replaced by a better one.
    """
    run = project_run()
    if run is None:
        return
    named = run.info.run_name or ""
    if is_random_name(named) or named == run.data.tags.get(ENTRY_POINT):
        mlflow.MlflowClient().set_tag(run.info.run_id, NAME_TAG, name)


def name_at_start(name: str) -> None:
    """Do the same before anything else, for commands that open no run; errors show later."""
    with suppress(*UNREACHABLE), no_retries():
        name_project_run(name)


def link_project_run(linked: Run, link: Link) -> None:
    """Name, in the run that `mlflow run` has opened, the run that has the results, if they differ.

    It is the same for a job that is requeued, and for the second of several workers of a search.
    """
    opened = project_run()
    if opened is None or opened.info.run_id == linked.info.run_id:
        return
    name_project_run(f"{linked.info.run_name} ({link.participle})")
    address = f"#/experiments/{linked.info.experiment_id}/runs/{linked.info.run_id}"
    note = f"The results are in the run [{linked.info.run_name}]({address})."
    with mlflow.start_run():
        mlflow.set_tags({f"{PREFIX}{link}": linked.info.run_id, NOTE_TAG: note})


def mark_refused(name: str) -> None:
    """Mark the run that `mlflow run` has opened for a command that was refused.

    Not one that has results of isogloss, or that something else opened. A server that does not
    answer keeps the run as it is: the message of the refusal matters more.
    """
    with suppress(*UNREACHABLE), no_retries():
        run = project_run()
        if run is None or ENTRY_POINT not in run.data.tags:
            return
        if run.data.metrics or any(key.startswith(PREFIX) for key in run.data.tags):
            return
        tags = {**prefixed({"kind": REFUSED}), NAME_TAG: f"refused: {name}"}
        client = mlflow.MlflowClient()
        for key, value in tags.items():
            client.set_tag(run.info.run_id, key, value)


def delete_refused(experiment_id: str) -> None:
    """Delete runs of refused commands, after `mlflow run` has written their status.

    That is why their own processes cannot: MLflow refuses the status of a deleted run.
    """
    with suppress(*UNREACHABLE), no_retries():
        client = mlflow.MlflowClient()
        for run in find_runs([experiment_id], prefixed({"kind": REFUSED}), status="FAILED"):
            client.delete_run(run.info.run_id)
