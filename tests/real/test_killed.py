"""Processes killed with -9, and the processes that resume their work."""

import signal
from collections.abc import Callable
from pathlib import Path

import mlflow
import optuna
import pytest
import yaml
from mlflow.entities import Run
from optuna.trial import TrialState

from isogloss.hpo.storage import open_storage
from real.processes import finished, last_step, started, wait_for

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]


def runs(kind: str) -> list[Run]:
    matches: list[Run] = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.`isogloss.kind` = '{kind}'",
        output_format="list",
    )
    return sorted(matches, key=lambda run: int(run.data.tags.get("isogloss.trial", 0)))


@pytest.fixture
def settings(model_folder: Callable[[str], Path]) -> dict[str, object]:
    return {
        "model": str(model_folder("gemma3")), "dtype": "float32", "dev_limit": 4, "limit": 4,
    }  # fmt: skip


def search_space(folder: Path, steps: int) -> str:
    """The path of a file in which only the learning rate is searched."""
    space = {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "rank": 2,
        "steps": steps,
        "batch_size": 2,
    }
    (folder / "space.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
    return str(folder / "space.yaml")


@pytest.mark.parametrize("storage", ["deep/journal", "sqlite:///search.db"])
def test_a_search_completes_when_one_of_its_two_workers_is_killed(
    settings: dict[str, object], storage: str, tmp_path: Path
) -> None:
    space = search_space(tmp_path, steps=2)
    settings |= {
        "study": "search", "storage": storage, "trials": 8, "pruning": False,
        "space": space, "measurements": 2,
    }  # fmt: skip
    with started("tune", 0.7, settings) as one, started("tune", 0.7, settings) as other:
        at = "tune-*/trial-*/trial.json"
        wait_for(lambda: len(list(Path("unfinished").glob(at))) == 2)  # both train
        one.send_signal(signal.SIGKILL)
        stdout, _ = finished(other)
    assert "8 complete, 1 fail; the best is trial" in stdout
    trials = optuna.load_study(study_name="search", storage=open_storage(storage)).get_trials()
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == 8
    assert len(trials) == 9
    (killed,) = [trial for trial in trials if trial.state == TrialState.FAIL]
    (retry,) = [
        trial for trial in trials if trial.system_attrs.get("failed_trial") == killed.number
    ]
    assert retry.params == killed.params
    drawn = [trial.params["learning_rate"] for trial in trials if trial is not retry]
    assert len(set(drawn)) == 8  # no two workers drew the same
    (search,) = runs("tune")
    assert search.info.status == "FINISHED"
    shown = runs("trial")
    states = [run.data.tags["isogloss.state"] for run in shown]
    assert sorted(states) == ["complete"] * 8 + ["fail"]
    assert shown[killed.number].info.status == "FAILED"
    reason = shown[killed.number].data.tags["isogloss.reason"]
    assert f"tried again as trial {retry.number}" in reason
    assert all(run.data.tags["mlflow.parentRunId"] == search.info.run_id for run in shown)
    assert not list(Path("unfinished").glob("tune-*"))


def test_a_search_that_is_told_to_end_leaves_no_run_running(
    settings: dict[str, object], tmp_path: Path
) -> None:
    space = search_space(tmp_path, steps=6)
    settings |= {
        "study": "search", "storage": "journal", "trials": 1, "pruning": False,
        "space": space, "measurements": 2,
    }  # fmt: skip
    with started("tune", 0.5, settings) as worker:
        wait_for(lambda: len(runs("trial")) == 1)
        worker.send_signal(signal.SIGINT)
        worker.communicate(timeout=90)
    (search,), (trial,) = runs("tune"), runs("trial")
    assert (search.info.status, trial.info.status) == ("KILLED", "FAILED")
    assert "tried again as trial 1" in trial.data.tags["isogloss.reason"]
    with started("tune", 0.0, settings) as worker:
        finished(worker)
    assert [run.info.status for run in runs("tune")] == ["FINISHED"]
    assert [run.info.status for run in runs("trial")] == ["FAILED", "FINISHED"]


def test_finetune_killed_three_times_ends_with_the_weights_of_an_uninterrupted_one_in_one_run(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {
        "steps": 12, "batch_size": 2, "rank": 2, "dropout": 0.2, "eval_every": 4,
        "checkpoint_every": 3, "seed": 1,
    }  # fmt: skip
    for kill_at in (2, 5, 10):
        with started("finetune", 0.25, settings):
            wait_for(lambda step=kill_at: last_step() >= step)
    with started("finetune", 0.0, settings) as worker:
        stdout, stderr = finished(worker)
    (interrupted,) = runs("finetune")  # one run for all four processes
    assert f"run {interrupted.info.run_id}" in stdout
    assert "resuming the run that was interrupted" in stderr
    assert interrupted.info.status == "FINISHED"
    client = mlflow.MlflowClient()
    losses = client.get_metric_history(interrupted.info.run_id, "train/loss")
    assert [point.step for point in losses] == list(range(1, 13))
    dev = client.get_metric_history(interrupted.info.run_id, "dev/accuracy")
    assert [point.step for point in dev] == [0, 4, 8, 12]
    assert not list(Path("unfinished").glob("finetune-*"))

    with started("finetune", 0.0, {**settings, "experiment": "uninterrupted"}) as worker:
        finished(worker)
    (uninterrupted,) = mlflow.search_runs(experiment_names=["uninterrupted"], output_format="list")
    digests = {run.data.tags["isogloss.adapter"] for run in (interrupted, uninterrupted)}
    assert len(digests) == 1
    again = client.get_metric_history(uninterrupted.info.run_id, "train/loss")
    assert [point.value for point in again] == [point.value for point in losses]
