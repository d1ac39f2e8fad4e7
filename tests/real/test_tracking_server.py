"""The tracking server of the other tests: logins, proxied artifacts, and outages."""

from pathlib import Path

import mlflow
import pytest
import requests

from real.conftest import Server

pytestmark = pytest.mark.real
SEARCH = "api/2.0/mlflow/experiments/search"


@pytest.fixture
def client(tracking_server: Server, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """A client that logs in and retries once."""
    for name, value in tracking_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return mlflow.MlflowClient(tracking_server.uri)


def test_the_server_is_healthy(tracking_server: Server) -> None:
    assert requests.get(f"{tracking_server.uri}/health", timeout=10).text == "OK"


def test_requests_without_a_valid_login_are_rejected(tracking_server: Server) -> None:
    options = {"params": {"max_results": 1}, "timeout": 10}
    login = tracking_server.username, tracking_server.password
    address = f"{tracking_server.uri}/{SEARCH}"
    assert requests.get(address, **options).status_code == 401
    assert requests.get(address, auth=(login[0], "wrong"), **options).status_code == 401
    assert requests.get(address, auth=login, **options).status_code == 200


def test_artifacts_need_a_login(tracking_server: Server) -> None:
    address = f"{tracking_server.uri}/api/2.0/mlflow-artifacts/artifacts"
    assert requests.put(f"{address}/1/file", data=b"x", timeout=10).status_code == 401
    assert requests.get(f"{address}/1/file", timeout=10).status_code == 401
    assert requests.get(address, timeout=10).status_code == 401


def test_a_run_survives_an_outage(
    tracking_server: Server, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    experiment = client.create_experiment("outage")
    run = client.create_run(experiment).info
    client.log_metric(run.run_id, "accuracy", 0.25)
    (tmp_path / "note.txt").write_text("before")
    client.log_artifact(run.run_id, str(tmp_path / "note.txt"))
    assert run.artifact_uri.startswith("mlflow-artifacts:/")
    (stored,) = (tracking_server.folder / "artifacts").rglob("note.txt")
    assert stored.read_text() == "before"

    with (
        tracking_server.away(),
        pytest.raises(mlflow.MlflowException, match="Connection refused"),
    ):
        client.log_metric(run.run_id, "accuracy", 0.5)

    assert client.get_run(run.run_id).data.metrics == {"accuracy": 0.25}
    loaded = client.download_artifacts(run.run_id, "note.txt", str(tmp_path))
    assert Path(loaded).read_text() == "before"
