"""Rows that two processes insert at the same moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlflow
import pytest
from conftest import probe
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from sqlalchemy import event
from sqlalchemy.engine import Engine

from isogloss.tracking import log_items
from isogloss.tracking.saved_view import View, save_view
from isogloss.tracking.shared_rows import insert_shared
from isogloss.types import Split


@contextmanager
def first(other: Callable[[], object], table: str) -> Iterator[list[str]]:
    """Context in which `other` comes first, once, when MLflow is about to insert into that table.

    Yields the statements before which that happened.
    """
    met: list[str] = []

    def before(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(f"INSERT INTO {table} ") and not met:
            met.append(statement)
            other()

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield met
    finally:
        event.remove(Engine, "before_cursor_execute", before)


def test_two_processes_log_a_new_data_set_at_once() -> None:
    fresh = probe("heb_Hebr", Split.TEST, 3)
    other = mlflow.MlflowClient().create_run("0").info.run_id

    def log_elsewhere() -> None:
        with mlflow.start_run(other, nested=True):
            log_items(fresh, "probe", Split.TEST)

    with mlflow.start_run() as run, first(log_elsewhere, "datasets") as met:
        digest = log_items(fresh, "probe", Split.TEST).digest
    assert len(met) == 1
    for run_id in (run.info.run_id, other):
        inputs = mlflow.get_run(run_id).inputs.dataset_inputs
        assert [each.dataset.digest for each in inputs] == [digest]


def test_two_processes_save_a_view_at_once() -> None:
    def save() -> str | None:
        return save_view(View("", [], []), "study", "0")

    with first(save, "experiment_tags") as met:
        address = save()
    assert len(met) == 1
    assert address == save()


def test_a_lasting_error_is_raised() -> None:
    calls: list[str] = []

    def refused() -> None:
        calls.append("")
        raise MlflowException("database disk image is malformed", error_code=BAD_REQUEST)

    with pytest.raises(MlflowException, match="malformed"):
        insert_shared(refused)
    assert len(calls) == 2
