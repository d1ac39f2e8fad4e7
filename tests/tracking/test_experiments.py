"""Experiments: isogloss's own, its kind, and where results are looked for."""

import mlflow
import pytest
from logged_runs import log_run
from synthetic_predictions import BASE, gains, tables

from isogloss.errors import ConfigError
from isogloss.tracking import RunKind, choose_experiment, find_finished
from isogloss.tracking.experiments import own_experiment, searched_with


def test_new_runs_go_to_an_experiment_that_the_ui_opens_on_training_runs() -> None:
    chosen = mlflow.get_experiment(choose_experiment(None))
    assert chosen.name == "isogloss"
    # One of the values of its enumeration ExperimentKind, in the file that the UI loads.
    assert chosen.tags["mlflow.experimentKind"] == "custom_model_development"
    assert own_experiment() == chosen.experiment_id


def test_an_experiment_of_that_name_gets_its_kind_and_keeps_another() -> None:
    made = mlflow.create_experiment("isogloss")
    choose_experiment(None)
    assert mlflow.get_experiment(made).tags["mlflow.experimentKind"] == "custom_model_development"
    mlflow.MlflowClient().set_experiment_tag(made, "mlflow.experimentKind", "finetuning")
    choose_experiment(None)
    assert mlflow.get_experiment(made).tags["mlflow.experimentKind"] == "finetuning"


def test_a_deleted_experiment_is_refused() -> None:
    mlflow.delete_experiment(own_experiment())
    with pytest.raises(ConfigError, match="experiment 'isogloss' is deleted"):
        own_experiment()


def test_results_of_isogloss_and_default_are_searched_together() -> None:
    own, named = own_experiment(), mlflow.create_experiment("named")
    assert searched_with(own) == [own, "0"]
    assert searched_with("0") == ["0", own]
    assert searched_with(named) == [named]
    mlflow.delete_experiment(own)
    assert searched_with("0") == ["0"]


def test_a_run_of_an_earlier_version_in_default_is_reused() -> None:
    run_id = log_run(BASE, tables(gains(0.1, 0.1), n=4)[BASE], fingerprint="f")
    assert mlflow.get_run(run_id).info.experiment_id == "0"
    found = find_finished(RunKind.EVALUATE, "f", choose_experiment(None))
    assert found is not None
    assert found.info.run_id == run_id
