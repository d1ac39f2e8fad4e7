"""Runs: what is logged at the start, which run is taken over, and how a run ends."""

import os
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from isogloss.config import EvaluateConfig
from isogloss.errors import ConfigError, TrackingError
from isogloss.process_ids import this_process
from isogloss.tracking import RunKind, choose_experiment, open_run
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.runs import log_metrics_once

CONFIG = EvaluateConfig(limit=3, languages=("heb_Hebr", "eng_Latn"))


def open_and_close(work: WorkDir | None = None, experiment: str | None = None) -> Run:
    with open_run(RunKind.EVALUATE, "base", CONFIG, {}, experiment, work) as run:
        pass
    return mlflow.get_run(run.info.run_id)


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    (tmp_path / "work").mkdir()
    return WorkDir(tmp_path / "work")


@pytest.fixture
def project_run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that `mlflow run` has opened in an experiment of its own."""
    experiment_id = mlflow.create_experiment("project")
    run = mlflow.MlflowClient().create_run(experiment_id)
    mlflow.MlflowClient().log_param(run.info.run_id, "limit", "'3'")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    return run


def test_a_run_has_its_kind_tags_and_configuration() -> None:
    tags = {"model": "m", "study": None, "recipe": ""}
    with open_run(RunKind.EVALUATE, "base", CONFIG, tags) as opened:
        pass
    run = mlflow.get_run(opened.info.run_id)
    assert (run.info.run_name, run.info.status) == ("base", "FINISHED")
    own = {name: value for name, value in run.data.tags.items() if name.startswith("isogloss.")}
    process = own.pop("isogloss.process")
    assert own == {"isogloss.kind": "evaluate", "isogloss.model": "m"}
    assert process == this_process()
    assert run.data.params["limit"] == "3"
    assert run.data.params["languages"] == "heb_Hebr,eng_Latn"
    config = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/config.json")
    assert config == CONFIG.model_dump(mode="json")


def test_a_run_in_a_run_is_its_child() -> None:
    with open_run(RunKind.STUDY, "study", CONFIG, {}) as parent:
        child = open_and_close()
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (TrackingError, "FAILED")],
)
def test_a_run_that_raises_ends_as_failed_or_killed(
    error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), open_run(RunKind.EVALUATE, "base", CONFIG, {}) as run:
        raise error
    assert mlflow.get_run(run.info.run_id).info.status == status


def test_an_interrupted_run_is_resumed(work: WorkDir, caplog: pytest.LogCaptureFixture) -> None:
    first = open_and_close(work)
    assert work.run_id == first.info.run_id
    again = open_and_close(work)
    assert again.info.run_id == first.info.run_id
    assert "base: resuming the run that was interrupted" in caplog.text


def test_a_run_that_was_interrupted_before_it_was_recorded_is_resumed(
    work: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = WorkDir.record_run

    def interrupted(self: WorkDir, run_id: str) -> None:
        monkeypatch.setattr(WorkDir, "record_run", record)
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkDir, "record_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_and_close(work)
    (left,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert left.info.status == "KILLED"
    assert open_and_close(work).info.run_id == left.info.run_id
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert run.info.status == "FINISHED"


def test_a_run_that_is_deleted_or_in_another_experiment_is_not_resumed(work: WorkDir) -> None:
    first = open_and_close(work)
    mlflow.MlflowClient().delete_run(first.info.run_id)
    second = open_and_close(work)
    assert second.info.run_id != first.info.run_id
    third = open_and_close(work, experiment="other")
    assert third.info.run_id != second.info.run_id
    assert work.run_id == third.info.run_id


def test_the_run_that_mlflow_run_opened_is_adopted(project_run: Run) -> None:
    run = open_and_close()
    assert run.info.run_id == project_run.info.run_id
    assert run.info.run_name == "base"
    assert run.data.params["limit"] == "'3'"  # as `mlflow run` logged it


def test_under_mlflow_run_an_interrupted_run_is_resumed_and_linked(
    work: WorkDir, project_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID")
    first = open_and_close(work, experiment="project")
    monkeypatch.setenv("MLFLOW_RUN_ID", project_run.info.run_id)
    assert open_and_close(work).info.run_id == first.info.run_id
    linking = mlflow.get_run(project_run.info.run_id)
    assert linking.data.tags["isogloss.resumes"] == first.info.run_id
    assert "isogloss.kind" not in linking.data.tags


def test_the_experiment_is_the_parameters_the_environments_or_the_open_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def name_of(experiment_id: str) -> str:
        return str(mlflow.get_experiment(experiment_id).name)

    assert name_of(choose_experiment(None)) == "isogloss"
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # set by MLflow
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by-name")
    assert name_of(choose_experiment(None)) == "by-name"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", mlflow.create_experiment("by-id"))
    assert name_of(choose_experiment(None)) == "by-id"
    assert name_of(choose_experiment("parameter")) == "parameter"
    mlflow.set_experiment("open")
    with mlflow.start_run():
        assert name_of(choose_experiment(None)) == "open"
        assert name_of(choose_experiment("open")) == "open"
        with pytest.raises(ConfigError, match="--experiment-name 'parameter'"):
            choose_experiment("parameter")


def test_under_mlflow_run_another_experiment_is_rejected(project_run: Run) -> None:
    assert choose_experiment(None) == choose_experiment("project") == project_run.info.experiment_id
    with pytest.raises(ConfigError, match="experiment 'other' is not the one this run is in"):
        choose_experiment("other")


def test_metrics_that_a_killed_process_logged_to_the_run_alone_are_sent_to_the_model() -> None:
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        model = client.create_logged_model("0", name="adapter")
        mlflow.log_metrics({"a": 1.0, "b": float("nan"), "d": 5.0})  # killed before the model's
        for _ in range(2):
            values = {"a": 1.0, "b": float("nan"), "c": 3.0, "d": 6.0}
            log_metrics_once(values, model_id=model.model_id)
    logged = {
        name: [point.value for point in client.get_metric_history(run.info.run_id, name)]
        for name in "abcd"
    }
    assert (logged["a"], logged["c"], logged["d"]) == ([1.0], [3.0], [5.0, 6.0])
    assert len(logged["b"]) == 1
    of_model = client.get_logged_model(model.model_id).metrics
    assert sorted(metric.key for metric in of_model) == ["a", "b", "c", "d"]
