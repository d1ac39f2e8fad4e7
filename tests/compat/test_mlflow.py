"""MLflow: a model from code is logged without being loaded."""

from collections.abc import Iterator
from pathlib import Path

import fastapi
import mlflow
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.models import ModelSignature
from mlflow.models.signature import infer_signature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import AnyType
from mlflow.utils import requirements_utils

from isogloss.compat.mlflow import leave_run, limit_requests, log_model

EXAMPLE = pd.DataFrame({"number": [1, 2]})
CODE = """
from pathlib import Path

import mlflow


class Doubled(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        with Path({loads!r}).open("a") as stream:
            stream.write("loaded\\n")

    def predict(self, context, model_input, params=None):
        return 2 * model_input["number"]


mlflow.models.set_model(Doubled())
"""


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_is_logged_alike_and_loaded_only_by_the_public_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements_utils, "_MODULES_TO_PACKAGES", None)
    loads = tmp_path / "loads.txt"
    code = tmp_path / "doubled.py"
    code.write_text(CODE.format(loads=str(loads)), encoding="utf-8")
    logged = {}
    for name, value in (("private", "0"), ("public", "1")):
        monkeypatch.setenv("ISOGLOSS_PUBLIC_INTERFACES", value)
        loads.write_text("")
        with mlflow.start_run():
            logged[name] = log_model(
                name="doubled",
                python_model=str(code),
                signature=infer_signature(EXAMPLE, pd.Series([2, 4])),
                input_example=EXAMPLE,
                pip_requirements=["mlflow"],
                tags={"isogloss.adapter": "0123"},
                step=3,
            )
        assert bool(loads.read_text()) == (name == "public"), (
            "`Model.log` no longer leaves a model unloaded for `validate_serving_input=False`: "
            "logging an adapter loads its base again (compat/mlflow.py)."
        )
        assert (requirements_utils._MODULES_TO_PACKAGES is None) == (name == "private"), (
            "logging an adapter reads the files of all installed packages again (compat/mlflow.py)."
        )
    private, public = logged["private"], logged["public"]
    assert private.signature == public.signature
    assert private.flavors.keys() == public.flavors.keys()
    for info in (private, public):
        model = mlflow.get_logged_model(info.model_id)
        assert model.tags["isogloss.adapter"] == "0123"
        assert model.model_type == mlflow.get_logged_model(public.model_id).model_type
        loaded = mlflow.pyfunc.load_model(f"models:/{info.model_id}")
        assert loaded.predict(EXAMPLE).tolist() == [2, 4]
        assert loaded.input_example["number"].tolist() == [1, 2]


@pytest.mark.parametrize("public", ["0", "1"])
def test_a_run_that_is_left_keeps_its_status(public: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_PUBLIC_INTERFACES", public)
    outer = mlflow.start_run()
    inner = mlflow.start_run(nested=True)
    mlflow.MlflowClient().set_terminated(inner.info.run_id, "FINISHED")  # by another process
    leave_run()
    assert mlflow.active_run().info.run_id == outer.info.run_id
    assert mlflow.get_run(inner.info.run_id).info.status == "FINISHED"
    assert mlflow.get_run(outer.info.run_id).info.status == "RUNNING"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("is_output", [False, True])
def test_a_model_of_which_a_killed_process_logged_a_part_is_completed_under_its_id(
    is_output: bool, tmp_path: Path
) -> None:
    code = tmp_path / "doubled.py"
    code.write_text(CODE.format(loads=str(tmp_path / "loads.txt")), encoding="utf-8")
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        begun = client.create_logged_model("0", name="doubled", source_run_id=run.info.run_id)
        if is_output:
            output = LoggedModelOutput(begun.model_id, step=3)
            client.log_outputs(run.info.run_id, models=[output])
        info = log_model(
            model_id=begun.model_id, name="doubled", python_model=str(code), step=3,
            pip_requirements=["mlflow"],
        )  # fmt: skip
    assert info.model_id == begun.model_id
    assert client.get_logged_model(begun.model_id).status == LoggedModelStatus.READY
    outputs = mlflow.get_run(run.info.run_id).outputs.model_outputs
    assert [(each.model_id, each.step) for each in outputs] == [(begun.model_id, 3)]
    (logged,) = client.search_logged_models(["0"])
    assert mlflow.pyfunc.load_model(f"models:/{logged.model_id}").predict(EXAMPLE).tolist() == [
        2,
        4,
    ]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A scoring server, bounded twice, of which every error is raised that it does not answer."""
    monkeypatch.setattr(scoring_server, "invocations", scoring_server.invocations)
    monkeypatch.setattr(fastapi, "FastAPI", fastapi.FastAPI)
    code = tmp_path / "doubled.py"
    code.write_text(CODE.format(loads=str(tmp_path / "loads.txt")), encoding="utf-8")
    schema = Schema([ColSpec(AnyType(), "number")])
    mlflow.pyfunc.save_model(
        tmp_path / "model", python_model=str(code), signature=ModelSignature(schema),
        pip_requirements=["mlflow"],
    )  # fmt: skip
    for _ in range(2):
        limit_requests(400_000)
    return TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(tmp_path / "model"))))


JSON = {"Content-Type": "application/json"}
GOOD = b'{"dataframe_records": [{"number": 4}]}'


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_no_parser_reads_is_a_bad_request(client: TestClient) -> None:
    bodies = [
        '{{"dataframe_records": [{{"number": {}}}]}}',
        "{}",
        '{{"inputs": {}, "params": {{}}}}',
    ]
    for body in bodies:
        for depth in (10, 300, 700, 900, 1000, 5000, 100_000):
            text = body.format("[" * depth + "]" * depth)
            answer = client.post("/invocations", content=text, headers=JSON)
            assert answer.status_code == 400 or (answer.status_code == 200 and depth < 5000)
            if depth >= 5000:
                assert "nested too deeply" in answer.json()["message"]
    parquet = {"Content-Type": "application/vnd.apache.parquet"}
    answer = client.post("/invocations", content=b"PAR1 is no table", headers=parquet)
    assert answer.status_code == 400
    csv = {"Content-Type": "text/csv"}
    assert client.post("/invocations", content=b"\xff\xfe", headers=csv).status_code == 400
    answer = client.post("/invocations", content=b'{"a": ' + b"b" * 100_000, headers=JSON)
    assert answer.status_code == 400
    assert len(answer.json()["message"]) < 2100
    assert client.post("/invocations", content=GOOD).status_code == 415  # of no type
    assert client.post("/invocations", content=GOOD, headers=JSON).json() == {
        "predictions": [{"number": 8}]
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_request_is_read_up_to_a_number_of_bytes(client: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 100_000

    for content in (b" " * 400_001, endless()):  # the client counts the bytes of one
        answer = client.post("/invocations", content=content, headers=JSON)
        assert answer.status_code == 413
        assert answer.json() == {"message": "A request has at most 400,000 bytes; send fewer rows."}
    fits = GOOD + b" " * (400_000 - len(GOOD))
    answer = client.post("/invocations", content=fits, headers=JSON)
    assert answer.json() == {"predictions": [{"number": 8}]}
    assert client.get("/ping").status_code == 200
