"""The address that `make ui` prints."""

import mlflow
import pytest

from scripts.ui_address import address


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    return "mlflow.db"


def test_the_address_is_that_of_the_runs_of_the_experiment(store):
    mlflow.MlflowClient("sqlite:///mlflow.db").create_experiment("other")
    made = mlflow.MlflowClient("sqlite:///mlflow.db").create_experiment("isogloss")
    expected = f"http://127.0.0.1:5001/#/experiments/{made}/runs?workflowType=machine_learning"
    assert address(store, "5001") == expected


def test_without_a_store_the_address_is_that_of_all_experiments(tmp_path):
    file = tmp_path / "none.db"
    expected = "http://127.0.0.1:5000/#/experiments?workflowType=machine_learning"
    assert address(str(file), "5000") == expected
    assert not file.exists()
