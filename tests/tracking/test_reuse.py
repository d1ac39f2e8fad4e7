"""Reuse: only a finished run of the same kind, fingerprint and experiment has the result."""

import errno
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss.errors import LeaseLostError
from isogloss.tasks import Item
from isogloss.tracking import (
    RunKind,
    data_digest,
    find_finished,
    fingerprint,
    log_predictions,
    read_predictions,
    record_reuse,
    require_first,
    reuse_or_lock,
    studies_of,
    tag,
)
from isogloss.tracking.lease_table import Database
from isogloss.tracking.leases import (
    Lease,
    lease,
    lease_url,
    local_exclusion,
    say_local_exclusion,
)
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.tags import prefixed


def log_run(status: str = "FINISHED", **tags: str) -> Run:
    with mlflow.start_run() as run:
        mlflow.set_tags(prefixed({"kind": "evaluate", "fingerprint": "f1", **tags}))
        log_predictions(pd.DataFrame({"correct": [True]}))
    mlflow.MlflowClient().set_terminated(run.info.run_id, status)
    return mlflow.get_run(run.info.run_id)


@pytest.mark.parametrize(
    "different",
    [
        {"kind": "finetune"},
        {"fingerprint": "f2"},
        {"status": "FAILED"},
        {"status": "KILLED"},
        {"status": "RUNNING"},
    ],
)
def test_a_run_of_another_kind_fingerprint_or_status_is_not_found(
    different: dict[str, str],
) -> None:
    run = log_run(**different)
    assert find_finished(RunKind.EVALUATE, "f1", run.info.experiment_id) is None


def test_the_newest_finished_run_of_the_experiment_is_found() -> None:
    log_run()
    newest = log_run()
    found = find_finished(RunKind.EVALUATE, "f1", newest.info.experiment_id)
    assert found is not None
    assert found.info.run_id == newest.info.run_id
    assert find_finished(RunKind.EVALUATE, "f1", mlflow.create_experiment("other")) is None


def test_a_finished_run_joins_the_study_that_reuses_it() -> None:
    run = log_run(study="first")
    for _ in range(2):
        with reuse_or_lock(RunKind.EVALUATE, "f1", None, "second") as (_, finished):
            assert finished is not None
            assert finished.info.run_id == run.info.run_id
    assert studies_of(mlflow.get_run(run.info.run_id)) == ["first", "second"]
    assert tag(mlflow.get_run(run.info.run_id), "studies") == "first\nsecond"  # added once
    record_reuse(mlflow.get_run(run.info.run_id), "third")
    assert studies_of(mlflow.get_run(run.info.run_id)) == ["first", "second", "third"]


def test_a_run_outside_a_study_has_the_studies_that_reused_it() -> None:
    run = log_run()
    assert studies_of(run) == []
    record_reuse(run, None)
    record_reuse(run, "second")
    assert studies_of(mlflow.get_run(run.info.run_id)) == ["second"]


def test_intermediate_results_are_kept_until_the_work_is_done() -> None:
    def fail() -> None:
        with reuse_or_lock(RunKind.EVALUATE, "f1", None, "second") as (work, finished):
            assert finished is None
            (work.folder / "results").touch()
            raise OSError("killed")

    with pytest.raises(OSError, match="killed"):
        fail()
    with reuse_or_lock(RunKind.EVALUATE, "f1", None, "second") as (work, _):
        assert (work.folder / "results").exists()
    assert not work.folder.exists()


def test_under_mlflow_run_the_reused_run_is_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    run = log_run()
    project_run = mlflow.MlflowClient().create_run(run.info.experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", project_run.info.run_id)
    record_reuse(run)
    linking = mlflow.get_run(project_run.info.run_id)
    assert linking.data.tags["isogloss.reuses"] == run.info.run_id
    assert linking.info.status == "FINISHED"


def test_a_fingerprint_depends_on_every_fact_and_not_on_their_order() -> None:
    facts = {"model": "a", "data": "é", "seed": 0}
    assert fingerprint(**facts) == fingerprint(**dict(reversed(facts.items())))
    for name in facts:
        assert fingerprint(**{**facts, name: "other"}) != fingerprint(**facts)
    # Another hash of the same facts would orphan every finished run.
    assert fingerprint(**facts).startswith("1385dfe4c8313614")


def test_a_data_digest_depends_on_every_field_and_on_the_order_of_items() -> None:
    item = Item("i1", "p1", "heb_Hebr", "passage", "question", ("a", "b"), 0)
    other = Item("i2", "p1", "heb_Hebr", "passage", "question", ("a", "b"), 1)
    assert data_digest([item, other]) != data_digest([other, item])
    for name, value in {
        "item_id": "i3",
        "passage_id": "p2",
        "language": "eng_Latn",
        "passage": "x",
        "question": "x",
        "options": ("b", "a"),
        "answer": 1,
    }.items():
        assert data_digest([replace(item, **{name: value})]) != data_digest([item]), name


def test_a_digest_covers_every_field_of_every_item_in_order() -> None:
    rows = [
        Item("i1", "p", "heb_Hebr", "Ä 読", "q?", ("a", '"b"'), 1),
        Item("i2", "p", "x", "", "", (), 0),
    ]
    lines = [
        '{"item_id": "i1", "passage_id": "p", "language": "heb_Hebr", "passage": "Ä 読", '
        '"question": "q?", "options": ["a", "\\"b\\""], "answer": 1}\n',
        '{"item_id": "i2", "passage_id": "p", "language": "x", "passage": "", "question": "", '
        '"options": [], "answer": 0}\n',
    ]
    assert data_digest(rows) == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert data_digest(rows[::-1]) != data_digest(rows)


def test_work_that_another_process_has_finished_meanwhile_is_not_logged_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with mlflow.start_run() as own:
        work = WorkDir(Path("work"))
        require_first(RunKind.EVALUATE, "f1", own, work)  # nobody has
    other = log_run()
    with pytest.raises(LeaseLostError, match=f"in run {other.info.run_id}, because no lease"):
        require_first(RunKind.EVALUATE, "f1", own, work)
    require_first(RunKind.EVALUATE, "f1", other, work)  # its own run, resumed
    require_first(RunKind.EVALUATE, "f1", own, work, problem_of=lambda run: "it is damaged")
    held = Lease("evaluate-f1", Database(str(lease_url())))  # then nobody else can have
    require_first(RunKind.EVALUATE, "f1", own, WorkDir(Path("work"), held))


def test_what_is_not_excluded_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    say_local_exclusion.cache_clear()
    with lease("evaluate-f1"):
        assert "two machines" not in caplog.text  # the store is a database
    say_local_exclusion.cache_clear()
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    for _ in range(2):
        with lease("evaluate-f1"):
            pass
    assert caplog.text.count("two machines may compute the same at the same time") == 1
    assert "set ISOGLOSS_LEASES to a database that all of them reach" in caplog.text
    mlflow.set_tracking_uri("mysql+pymysql://me@host/store")
    assert "leases are kept in PostgreSQL or SQLite and MLflow's store is 'mysql'" in str(
        local_exclusion()
    )


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        MlflowException("The following failures occurred:\n[Errno 28] No space left on device"),
        MlflowException("API request to x failed with error code 502 != 200."),
    ],
)
def test_artifacts_that_cannot_be_read_now_are_not_taken_for_damaged(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = log_run()

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", fail)
    for read in (
        lambda: find_finished(RunKind.EVALUATE, "f1", run.info.experiment_id),
        lambda: read_predictions(run.info.run_id),
    ):
        with pytest.raises(type(error), match=re.escape(str(error))):
            read()
