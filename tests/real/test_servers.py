"""Every entry point against a tracking server with PostgreSQL, proxied artifacts and logins, and
runs during an outage of that server.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.entities import Run

from isogloss.registry.lookup import adapter_folder
from isogloss.tracking.lease_table import Database
from isogloss.tracking.leases import lease, local_exclusion
from real.conftest import Server
from real.processes import ROOT, environment, finished, last_step, started, wait_for

pytestmark = pytest.mark.real
TARGETS = "arb_Arab,heb_Hebr,amh_Ethi,eng_Latn,fra_Latn"
AWAY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "ISOGLOSS_PATIENCE": "4"}


@pytest.fixture
def server(tracking_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, which this test and its child processes use."""
    for name, value in tracking_server.environment().items():
        monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(tracking_server.uri)
    return tracking_server


def call(name: str, *parameters: str, code: int = 0) -> str:
    """What an entry point prints; `parameters` are NAME=VALUE."""
    words = [
        word for one in parameters for word in (f"--{one.split('=')[0]}", one.split("=", 1)[1])
    ]
    result = subprocess.run(
        [sys.executable, "-m", f"entrypoints.{name}", *words],
        env={**environment(), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == code, result.stderr[-3000:]
    return result.stdout if code == 0 else result.stderr


def run_id(printed: str) -> str:
    match = re.search(r"^run (\w{32})$", printed, re.MULTILINE)
    assert match, printed
    return match[1]


def run_of(experiment: str) -> Run:
    (run,) = mlflow.search_runs(experiment_names=[experiment], output_format="list")
    return mlflow.get_run(run.info.run_id)


def test_every_entry_point_works_with_it(
    server: Server, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    parameters = [f"model={model_folder('gemma3')}", "dtype=float32", "limit=4", "experiment=chain"]
    short = [*parameters, "steps=2", "batch_size=2", "rank=2", "dev_limit=4"]
    where = [f"languages={TARGETS}", "study=chain"]
    trained = run_id(call("finetune", *short, "register_as=reader"))
    base = run_id(call("evaluate", *parameters, *where))
    tuned = run_id(call("evaluate", *parameters, *where, "adapter=models:/reader@candidate"))
    assert run_id(call("evaluate", *parameters, *where, f"adapter={trained}")) == tuned != base
    message = call("register", f"adapter={trained}", "name=reader", "alias=champion")
    assert "models:/reader/1: registered before; alias champion is at version 1" in message
    assert run_id(call("evaluate", *parameters, *where, "adapter=models:/reader@champion")) == tuned
    with adapter_folder(trained) as folder:
        local = shutil.copytree(folder, tmp_path / "adapter")
    assert run_id(call("evaluate", *parameters, *where, f"adapter={local}")) == tuned
    assert "(evidence in the report): C1 " in call("compare", "study=chain", "experiment=chain")
    evaluated = mlflow.get_run(tuned)
    assert evaluated.info.artifact_uri.startswith("mlflow-artifacts:")
    model_id = evaluated.inputs.model_inputs[0].model_id
    shown = {metric.key for metric in mlflow.get_logged_model(model_id).metrics}
    assert {"dev/accuracy", "accuracy/heb_Hebr"} <= shown
    version = mlflow.MlflowClient().get_model_version_by_alias("reader", "champion")
    assert version.run_id == trained
    assert "| Hebrew (`heb_Hebr`) | 4 |" in version.description
    space = {"learning_rate": [1e-3, 1e-2], "rank": 2, "steps": 2, "batch_size": 2}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
    searched = call(
        "tune", *parameters, "dev_limit=4", "trials=3", f"space={tmp_path}/space.yaml",
        f"storage={server.storage}", "study=served",
    )  # fmt: skip
    assert "3 complete; the best is trial" in searched
    recipe = f"recipe={run_id(searched)}"
    best = mlflow.get_run(run_id(call("finetune", *parameters, "dev_limit=4", recipe)))
    assert best.data.params["recipe.learning_rate"] in ("0.001", "0.01")
    # A process of another user: the installed packages and the server, without the source tree.
    code = (
        "import mlflow; model = mlflow.pyfunc.load_model('models:/reader@champion'); "
        "print(model.predict([{'passage': 'A b.', 'question': 'C?', 'options': ['d', 'e']}]))"
    )
    outside = {**environment(), "PYTHONPATH": ""}
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=outside, capture_output=True, text=True
    )
    assert "choice" in answer.stdout, answer.stderr[-3000:]


def test_leases_are_in_the_database_that_the_user_names(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "set ISOGLOSS_LEASES to a database" in str(local_exclusion())
    monkeypatch.setenv("ISOGLOSS_LEASES", server.storage)  # with the password in PGPASSWORD
    assert local_exclusion() is None
    with lease("evaluate-" + "f" * 64) as held:
        held.require()
        held.commit("a" * 32)
        row = Database(server.storage).read("evaluate-" + "f" * 64)
        assert row is not None
        assert (row["holder"], row["run_id"], row["committed"]) == (held.holder, "a" * 32, True)


def test_without_a_login_the_message_names_the_variables_and_nothing_is_computed(
    server: Server, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    message = call("finetune", f"model={model_folder('gemma3')}", "steps=1", code=2)
    assert "Traceback" not in message
    assert "MLFLOW_TRACKING_USERNAME" in message


@pytest.fixture
def settings(
    model_folder: Callable[[str], Path], request: pytest.FixtureRequest
) -> dict[str, object]:
    return {
        "model": str(model_folder("gemma3")), "dtype": "float32", "dev_limit": 4, "limit": 4,
        "experiment": request.node.name, "batch_size": 2, "rank": 2, "checkpoint_every": 4,
    }  # fmt: skip


def test_training_continues_during_an_outage_and_every_metric_arrives(
    server: Server, settings: dict[str, object]
) -> None:
    settings |= {"steps": 60, "eval_every": 20}
    with started("finetune", 0.4, settings) as worker:
        wait_for(lambda: last_step() >= 10)
        with server.away():
            gone = time.time()
            left = last_step()
            wait_for(lambda: last_step() >= left + 35)  # training continues
        back = time.time()
        printed, log = finished(worker, 300)
    assert "does not accept metrics; they are in" in log
    assert "MLflow accepts metrics again" in log
    run = run_of(str(settings["experiment"]))
    assert run_id(printed) == run.info.run_id
    assert run.info.status == "FINISHED"
    losses = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in losses] == list(range(1, 61))
    # Metrics have the time of their step, not of their arrival: some are from the outage.
    assert sum(gone * 1000 < point.timestamp < back * 1000 for point in losses) >= 20
    dev = mlflow.MlflowClient().get_metric_history(run.info.run_id, "dev/accuracy")
    assert [point.step for point in dev] == [0, 20, 40, 60]


def test_an_adapter_trained_before_an_outage_is_uploaded_by_the_same_command(
    server: Server, settings: dict[str, object]
) -> None:
    settings |= {"steps": 12}
    with started("finetune", 0.3, settings, **AWAY) as worker:
        wait_for(lambda: last_step() >= 3)
        with server.away():
            _, log = worker.communicate(timeout=120)
    assert worker.returncode == 1
    match = re.search(r"they are in (\S+unfinished/finetune-\w{12}), and running", log)
    assert match, log[-3000:]
    folder = Path(match[1])
    before = (folder / "metrics.jsonl").read_bytes()
    weights = (folder / "last" / "adapter_model.safetensors").read_bytes()
    with started("finetune", 600.0, settings) as worker:  # a step would take ten minutes now
        printed, _ = finished(worker, 200)
    assert not folder.exists()
    run = run_of(str(settings["experiment"]))
    assert (run_id(printed), run.info.status) == (run.info.run_id, "FINISHED")
    losses = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in losses] == list(range(1, 13))
    assert before.count(b"train/loss") == 12
    with adapter_folder(run.info.run_id) as adapter:
        assert (adapter / "adapter_model.safetensors").read_bytes() == weights


def test_predictions_made_before_an_outage_are_uploaded_by_the_same_command(
    server: Server, settings: dict[str, object]
) -> None:
    parameters = {
        key: settings[key] for key in ("model", "dtype", "experiment", "limit")
    } | {"languages": TARGETS, "limit": 200}  # fmt: skip
    with started("evaluate", 0.0, parameters, **AWAY) as worker:
        wait_for(lambda: any(Path("unfinished").glob("evaluate-*/*.parquet")))
        with server.away():
            _, log = worker.communicate(timeout=120)
    assert worker.returncode == 1
    assert "running the same command again" in log
    (folder,) = Path("unfinished").glob("evaluate-*")
    assert len(list(folder.glob("*.parquet"))) == 5
    with started("evaluate", 0.0, parameters) as worker:
        printed, log = finished(worker)
    assert log.count("predictions are on disk") == 5
    run = run_of(str(parameters["experiment"]))
    assert run_id(printed) == run.info.run_id
    assert "accuracy/heb_Hebr" in run.data.metrics
