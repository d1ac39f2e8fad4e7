"""Every failure of MLflow is one true sentence: who answered what, and what the user can do."""

import functools
import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest
import requests
from click.testing import CliRunner
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND
from pydantic import BaseModel

import isogloss
from isogloss.cli.command import stage_command
from isogloss.config import EvaluateConfig
from isogloss.errors import ComparisonError, ConfigError, ModelError, TrackingError
from isogloss.registry.lookup import adapter_folder, logged_model, model_uri
from isogloss.registry.register import register
from isogloss.stages.collect_runs import collect_runs
from isogloss.tracking import RunKind, choose_experiment, open_run, store
from isogloss.tracking.artifacts import require_reachable_artifacts
from isogloss.tracking.store import ensure_store

CONFIG = EvaluateConfig()


class Nothing(BaseModel):
    """A command without parameters."""


def said(run: Callable[[], object]) -> str:
    """What a command prints on stderr when it fails with exit status 2."""
    result = CliRunner().invoke(stage_command("small", Nothing, lambda _: run() and None))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    (line,) = result.stderr.splitlines()
    return line


class Handler(BaseHTTPRequestHandler):
    """Answers every request with the status and the body of its server."""

    def do_GET(self) -> None:
        body = self.server.body  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    """A server that is MLflow's address and not MLflow."""
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.status, server.body = 200, b"<html>a portal</html>"  # type: ignore[attr-defined]
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
    thread.start()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "clause"),
    [
        (200, "answers with a page that is not MLflow's; see MLFLOW_TRACKING_URI"),
        (401, "denies access (answers HTTP 401 Unauthorized); set MLFLOW_TRACKING_USERNAME"),
        (403, "denies access (answers HTTP 403 Forbidden); set MLFLOW_TRACKING_USERNAME"),
        (404, "answers HTTP 404 Not Found; see MLFLOW_TRACKING_URI"),
        (413, "answers HTTP 413 Request Entity Too Large; raise the limit of the proxy"),
        (500, "answers HTTP 500 Internal Server Error; see MLFLOW_TRACKING_URI"),
        (502, "answers HTTP 502 Bad Gateway; see"),
        (503, "answers HTTP 503 Service Unavailable; see"),
        (504, "answers HTTP 504 Gateway Timeout; see"),
    ],
)
def test_a_page_of_a_proxy_is_said_with_its_status(
    server: HTTPServer, status: int, clause: str
) -> None:
    server.status = status  # type: ignore[attr-defined]
    assert f"{server.server_port} {clause}" in said(lambda: choose_experiment(None))


@pytest.mark.parametrize(
    ("code", "status", "clause"),
    [
        ("PERMISSION_DENIED", 403, "denies access (PERMISSION_DENIED: not yours)"),
        ("UNAUTHENTICATED", 401, "denies access (UNAUTHENTICATED: not yours)"),
        ("INVALID_PARAMETER_VALUE", 400, ": INVALID_PARAMETER_VALUE: not yours."),
        ("RESOURCE_ALREADY_EXISTS", 400, ": RESOURCE_ALREADY_EXISTS: not yours."),
    ],
)
def test_an_error_of_mlflow_itself_is_said_in_its_words(
    server: HTTPServer, code: str, status: int, clause: str
) -> None:
    server.status = status  # type: ignore[attr-defined]
    server.body = json.dumps({"error_code": code, "message": "not yours"}).encode()  # type: ignore[attr-defined]
    assert clause in said(lambda: choose_experiment(None))


def test_an_answer_with_nothing_in_it_opens_no_run(server: HTTPServer) -> None:
    server.body = b""  # type: ignore[attr-defined]
    assert "answers, but names no experiment; see MLFLOW_TRACKING_URI" in said(
        lambda: choose_experiment(None)
    )


@pytest.mark.usefixtures("server")
def test_only_silence_does_not_answer() -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    assert said(lambda: choose_experiment(None)) == (
        "Error: MLflow at http://127.0.0.1:9 does not answer."
    )
    mlflow.set_tracking_uri("http://mlflow.invalid")
    assert "has a host name that is not known here." in said(lambda: choose_experiment(None))


def test_a_server_without_tls_is_told_from_silence(server: HTTPServer) -> None:
    mlflow.set_tracking_uri(f"https://127.0.0.1:{server.server_port}")
    sentence = said(lambda: choose_experiment(None))
    assert "fails the TLS handshake: " in sentence
    assert "without TLS use http://." in sentence


def test_a_certificate_that_is_not_trusted_is_named() -> None:
    error = requests.exceptions.SSLError("x")
    error.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in said(functools.partial(_raise, error))


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("uri", "clause"),
    [
        ("htp://host:5000", "must begin with one of http://"),
        ("http:/host", "is none of them"),
        ("127.0.0.1:5000", "names a folder"),
        ("./mlruns", "names a folder"),
        ("uc:catalog", "is none of them"),
        ("postgresql+nodriver://me:secret@host/x", "cannot be opened"),
        ("postgresql+pg8000://me:secret@127.0.0.1:9/x", "the Python package 'pg8000', which"),
        ("mysql+pymysql://me:secret@127.0.0.1:9/x", "the Python package 'pymysql', which"),
        ("sqlite:////proc/none/mlflow.db", "cannot be opened"),
    ],
)
def test_an_address_that_mlflow_cannot_use_is_refused_without_its_password(
    uri: str, clause: str
) -> None:
    mlflow.set_tracking_uri(uri)
    sentence = said(lambda: None)
    assert clause in sentence
    assert "secret" not in sentence


@pytest.mark.real  # the package takes seconds
def test_databricks_without_credentials_is_one_sentence() -> None:
    mlflow.set_tracking_uri("databricks")
    assert "Reading Databricks credential configuration failed" in said(
        lambda: choose_experiment(None)
    )


@pytest.mark.parametrize(
    ("changes", "runs", "clause"),
    [
        (["UPDATE alembic_version SET version_num = 'ffffffffffff'"], 1,
         "was made by a newer MLflow than"),
        (["UPDATE alembic_version SET version_num = 'ffffffffffff'", "DROP TABLE issues"], 1,
         "was made by a newer MLflow than"),
        (["UPDATE alembic_version SET version_num = 'df50e92ffc5e'"], 1,
         "run `mlflow db upgrade sqlite:///"),
        (["DELETE FROM alembic_version", "DROP TABLE issues"], 1,
         "run `mlflow db upgrade sqlite:///"),
        (["DELETE FROM alembic_version", "DROP TABLE issues"], 0, "is only half created"),
        (["UPDATE alembic_version SET version_num = 'df50e92ffc5e'"], 0, "is only half created"),
    ],
)  # fmt: skip
def test_a_database_of_another_version_or_half_created_is_named(
    changes: list[str], runs: int, clause: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store, "PAUSE", 0)
    for _ in range(runs):
        mlflow.MlflowClient().create_run("0")
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "other.db")
    with sqlite3.connect(tmp_path / "other.db") as database:
        for change in changes:
            database.execute(change)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    assert clause in said(lambda: None)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("text " * 1000)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/text.db")
    assert "cannot be opened" in said(lambda: None)


def test_commands_that_create_one_store_at_once_all_use_it(tmp_path: Path) -> None:
    mlflow.set_tracking_uri("sqlite:///deep/er/new.db")  # a relative path
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/new.db.0123.part").write_bytes(b"of a killed command")
    with ThreadPoolExecutor(3) as commands:
        for done in [commands.submit(ensure_store) for _ in range(3)]:
            done.result()
    found = {path.name for path in (tmp_path / "deep/er").iterdir()}
    assert found == {"new.db", "new.db.lock"}
    run = mlflow.MlflowClient().create_run("0")
    assert run.info.artifact_uri.startswith(str(tmp_path / "mlruns"))


@pytest.mark.real
def test_processes_that_create_one_store_at_once_all_use_it(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    program = "from isogloss.tracking.store import ensure_store; ensure_store()"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")
    } | {"PYTHONPATH": str(Path(isogloss.__file__).parents[1])}
    commands = [
        subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
        for _ in range(3)
    ]
    assert [command.wait() for command in commands] == [0, 0, 0]
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    assert [found.name for found in mlflow.search_experiments()] == ["Default"]


def test_the_experiment_that_is_chosen_is_the_one_of_the_run_when_another_process_creates_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = mlflow.MlflowClient.create_experiment
    client = mlflow.tracking._tracking_service.client.TrackingServiceClient

    def created_meanwhile(self: object, name: str, *_: object, **__: object) -> str:
        monkeypatch.undo()
        mlflow.set_tracking_uri(uri)
        create(mlflow.MlflowClient(), name)
        return create(mlflow.MlflowClient(), name)

    uri = mlflow.get_tracking_uri()
    monkeypatch.setattr(client, "create_experiment", created_meanwhile)
    chosen = choose_experiment("study")
    with mlflow.start_run() as run:
        pass
    assert run.info.experiment_id == chosen != "0"


@pytest.mark.parametrize(
    ("variable", "value", "clause"),
    [
        ("MLFLOW_EXPERIMENT_ID", "99", "MLFLOW_EXPERIMENT_ID is '99', but MLflow at"),
        ("MLFLOW_EXPERIMENT_ID", "mine", "MLFLOW_EXPERIMENT_ID is 'mine', but MLflow at"),
        ("MLFLOW_EXPERIMENT_ID", "DELETED", "experiment 'old' is deleted; choose another"),
        ("MLFLOW_EXPERIMENT_NAME", "old", "experiment 'old' is deleted; choose another"),
        ("MLFLOW_RUN_ID", "0" * 32, f"MLFLOW_RUN_ID is '{'0' * 32}', but MLflow at"),
        ("MLFLOW_RUN_ID", "../x", "MLFLOW_RUN_ID is '../x', but MLflow at"),
        ("MLFLOW_RUN_ID", "DELETED", "which is deleted; restore or unset it"),
    ],
)
def test_an_experiment_or_run_of_the_environment_that_is_not_there_is_named(
    variable: str, value: str, clause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow.MlflowClient()
    old = client.create_experiment("old")
    deleted = client.create_run("0").info.run_id
    client.delete_experiment(old)
    client.delete_run(deleted)
    place = deleted if variable == "MLFLOW_RUN_ID" else old
    monkeypatch.setenv(variable, place if value == "DELETED" else value)
    with pytest.raises(ConfigError) as raised:
        choose_experiment(None)
    assert clause in str(raised.value)
    assert mlflow.search_runs(["0"], output_format="list") == []


def test_a_deleted_experiment_given_by_name_is_named() -> None:
    client = mlflow.MlflowClient()
    client.delete_experiment(client.create_experiment("old"))
    with pytest.raises(ConfigError, match="experiment 'old' is deleted"):
        choose_experiment("old")


@pytest.mark.parametrize("look_up", [lambda: model_uri("a" * 32), lambda: collect_one("a" * 32)])
def test_a_server_that_does_not_answer_is_not_taken_for_an_id_that_it_does_not_have(
    server: HTTPServer, look_up: Callable[[], object]
) -> None:
    server.status = 502  # type: ignore[attr-defined]
    assert "answers HTTP 502 Bad Gateway" in said(look_up)
    server.status, missing = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}  # type: ignore[attr-defined]
    server.body = json.dumps(missing).encode()  # type: ignore[attr-defined]
    with pytest.raises((ModelError, ComparisonError), match="id of a run"):
        look_up()


def test_artifacts_that_cannot_be_written_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_and_close(experiment: str) -> None:
        with open_run(RunKind.PLAN, "plan", CONFIG, {}, experiment):
            pass

    mlflow.create_experiment("bucket", artifact_location="s3://bucket/mlflow")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(TrackingError, match=r"s3://bucket.*Python package 'boto3'"):
        open_and_close("bucket")
    mlflow.create_experiment("elsewhere", artifact_location="/proc/other/mlruns")
    with pytest.raises(TrackingError, match="artifacts cannot be written to /proc/other"):
        open_and_close("elsewhere")


def test_a_folder_of_artifacts_that_only_the_server_has_is_refused_before_a_run_is_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    far = mlflow.create_experiment("far", artifact_location="/srv/server/mlruns/7")
    near = mlflow.create_experiment("near", artifact_location=f"file://{tmp_path}/shared/8")
    require_reachable_artifacts(far)  # a local store creates it
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://mlflow.example.org")
    with pytest.raises(TrackingError, match="a folder that this machine does not have"):
        require_reachable_artifacts(far)
    with pytest.raises(TrackingError, match="a folder that this machine does not have"):
        require_reachable_artifacts(near)
    os.mkdir(tmp_path / "shared")
    require_reachable_artifacts(near)


@pytest.fixture
def without_logged_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of MLflow 2, which answers each request about logged models with 404."""

    def absent(*_: object, **__: object) -> None:
        raise MlflowException(
            "API request to endpoint /api/2.0/mlflow/logged-models failed with error code 404 "
            "!= 200. Response body: ''",
            error_code=ENDPOINT_NOT_FOUND,
        )

    for name in ("search_logged_models", "create_logged_model", "get_logged_model"):
        monkeypatch.setattr(mlflow.MlflowClient, name, absent)


@pytest.mark.usefixtures("without_logged_models")
def test_a_server_without_logged_models_keeps_adapters_as_artifacts(
    model_folder: Callable[[str], Path],
) -> None:
    from isogloss.config import FinetuneConfig
    from isogloss.models.adapter_files import adapter_digest
    from isogloss.stages.evaluate_adapters import run_evaluate
    from isogloss.stages.finetune import finetune
    from isogloss.stages.session import Session

    folder = str(model_folder("gemma3"))
    config = FinetuneConfig.model_validate(
        {"model": folder, "dtype": "float32", "steps": 2, "batch_size": 2, "limit": 6,
         "dev_limit": 6, "rank": 2}
    )  # fmt: skip
    run: Run = finetune(config, Session(config.model, config.dtype))
    digest = run.data.tags["isogloss.adapter"]
    uri = f"runs:/{run.info.run_id}/adapter-{digest[:12]}"
    assert run.data.tags["isogloss.adapter_uri"] == uri
    for name in (run.info.run_id, uri):
        with adapter_folder(name) as local:
            assert adapter_digest(local) == digest
            assert (local / "README.md").is_file()
    assert logged_model(digest) is None
    (evaluated,) = run_evaluate(
        EvaluateConfig.model_validate(
            {"model": folder, "dtype": "float32", "adapter": run.info.run_id, "limit": 4,
             "languages": ("heb_Hebr", "fin_Latn")}
        )
    )  # fmt: skip
    assert mlflow.get_run(evaluated).data.tags["isogloss.adapter"] == digest
    with pytest.raises(ModelError, match="registering needs a server of MLflow 3"):
        register(run.info.run_id, None, None)


def test_registering_without_permission_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise mlflow.exceptions.RestException(
            {"error_code": "PERMISSION_DENIED", "message": "Permission denied"}
        )

    monkeypatch.setattr(mlflow.MlflowClient, "get_logged_model", refuse)
    message = said(lambda: register("models:/m-1", None, None))
    assert "denies access (PERMISSION_DENIED: Permission denied)" in message


def collect_one(run_id: str) -> object:
    from isogloss.config import CompareConfig

    return collect_runs(CompareConfig.model_validate({"runs": run_id}))
