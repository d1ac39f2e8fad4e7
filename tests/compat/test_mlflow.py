"""MLflow: a model from code is logged without being loaded."""

import json
from contextlib import suppress
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models.signature import infer_signature
from mlflow.pyfunc import scoring_server

from isogloss.compat.mlflow import leave_run, log_model, refuse_deep_json

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


@pytest.mark.parametrize("depth", [10, 900, 1000, 5000, 100_000])
@pytest.mark.parametrize(
    "body", ['{{"dataframe_records": [{{"a": {}}}]}}', "{}", '{{"inputs": {}, "params": {{}}}}']
)
def test_deep_json_is_a_bad_request(body: str, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_server, "_decode_json_input", scoring_server._decode_json_input)
    refuse_deep_json()
    refuse_deep_json()  # once is enough
    text = body.format("[" * depth + "]" * depth)
    if depth >= 5000:
        with pytest.raises(MlflowException, match="nested too deeply") as refused:
            scoring_server._decode_json_input(text)
        assert refused.value.get_http_status_code() == 400
    elif text.startswith("{") and depth < 500:
        assert scoring_server._decode_json_input(text) == json.loads(text)
    else:
        with suppress(MlflowException):  # whatever is left of the stack
            scoring_server._decode_json_input(text)
