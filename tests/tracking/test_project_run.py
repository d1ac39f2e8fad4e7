"""The run that `mlflow run` has opened: its name, and its end after a refusal."""

import mlflow
import pytest

from isogloss.tracking.project_run import (
    Link,
    delete_refused,
    link_project_run,
    mark_refused,
    name_project_run,
)


def opened(monkeypatch: pytest.MonkeyPatch, name: str | None = None, **tags: str) -> str:
    """A run as `mlflow run` opens it for the entry point evaluate; returns its id."""
    client = mlflow.MlflowClient()
    tags = {"mlflow.project.entryPoint": "evaluate", **tags}
    run_id: str = client.create_run("0", tags=tags, run_name=name).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return run_id


def name_of(run_id: str) -> str:
    return str(mlflow.get_run(run_id).info.run_name)


def test_a_name_of_mlflow_or_of_the_entry_point_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = opened(monkeypatch)  # MLflow makes a name up
    name_project_run("evaluate")
    assert name_of(run_id) == "evaluate"
    name_project_run("base · model · probe")
    assert name_of(run_id) == "base · model · probe"
    name_project_run("another")
    assert name_of(run_id) == "base · model · probe"


@pytest.mark.parametrize("name", ["mine", "my-run-1"])
def test_a_name_that_the_user_gave_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = opened(monkeypatch, name)
    name_project_run("base · model · probe")
    assert name_of(run_id) == name


def test_a_run_that_stands_for_another_is_named_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    other = mlflow.MlflowClient().create_run("0", run_name="base · model · probe")
    run_id = opened(monkeypatch)
    link_project_run(other, Link.REUSES)
    assert name_of(run_id) == "base · model · probe (reused)"
    tags = mlflow.get_run(run_id).data.tags
    assert tags["isogloss.reuses"] == other.info.run_id
    assert tags["mlflow.note.content"] == (
        f"The results are in the run [base · model · probe](#/experiments/0/runs/{other.info.run_id})."
    )


def test_a_refused_command_leaves_no_run_once_mlflow_has_ended_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = mlflow.MlflowClient()
    run_id = opened(monkeypatch)
    mark_refused("evaluate")
    assert name_of(run_id) == "refused: evaluate"
    delete_refused("0")
    assert client.get_run(run_id).info.lifecycle_stage == "active"  # MLflow writes its status yet
    client.set_terminated(run_id, "FAILED")
    delete_refused("0")
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"


@pytest.mark.parametrize("left", ["result", "metric", "not of mlflow run"])
def test_a_run_with_results_or_of_something_else_is_not_marked(
    left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = opened(monkeypatch)
    client = mlflow.MlflowClient()
    if left == "result":
        client.set_tag(run_id, "isogloss.kind", "study")
    elif left == "metric":
        client.log_metric(run_id, "loss", 1.0)
    else:
        client.delete_tag(run_id, "mlflow.project.entryPoint")
    name = name_of(run_id)
    mark_refused("evaluate")
    assert name_of(run_id) == name
    assert client.get_run(run_id).data.tags.get("isogloss.kind") != "refused"
