"""Reuse of finished runs: a result with the same fingerprint is not computed again."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow.entities import Run

from isogloss.config import EvaluateConfig, FinetuneConfig
from isogloss.tracking.resume import WorkDir, locked_work_dir
from isogloss.tracking.runs import Link, choose_experiment, link_project_run
from isogloss.tracking.tags import PREFIX, RunKind, tag


def find_finished(kind: RunKind, fingerprint: str, experiment_id: str) -> Run | None:
    """The newest finished run of that kind and fingerprint in an experiment, or None."""
    runs = mlflow.search_runs(
        [experiment_id],
        filter_string=(
            f"tags.`{PREFIX}kind` = '{kind}' AND tags.`{PREFIX}fingerprint` = '{fingerprint}' "
            "AND attributes.status = 'FINISHED'"
        ),
        max_results=1,
        output_format="list",
    )
    return runs[0] if runs else None


@contextmanager
def reuse_or_lock(
    kind: RunKind, fingerprint: str, config: EvaluateConfig | FinetuneConfig
) -> Iterator[tuple[WorkDir, Run | None]]:
    """Lock a piece of work; yield its folder and the finished run that has its result, or None.

    The folder is deleted when the context ends without an error.
    """
    with locked_work_dir(kind, fingerprint) as work:
        finished = find_finished(kind, fingerprint, choose_experiment(config.experiment))
        if finished:
            record_reuse(finished, config.study)
        yield work, finished
        work.delete()


def record_reuse(run: Run, study: str | None = None) -> None:
    """Add a finished run to another study, and link the run that `mlflow run` has opened to it."""
    if study is not None and study not in studies_of(run):
        names = "\n".join([*studies_of(run), study])
        mlflow.MlflowClient().set_tag(run.info.run_id, f"{PREFIX}studies", names)
    link_project_run(run.info.run_id, Link.REUSES)


def studies_of(run: Run) -> list[str]:
    """The studies of a run: the one that made it, then those that reused it."""
    own = tag(run, "study")
    reused_by = (tag(run, "studies") or "").splitlines()
    return list(dict.fromkeys([*([own] if own is not None else []), *reused_by]))
