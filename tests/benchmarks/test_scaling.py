"""The filled store: its copies are the rows that MLflow writes, and statements are counted."""

import mlflow
import pandas as pd
from mlflow.entities import LoggedModelInput, Run

from benchmarks.scaling.filled_store import STUDY, multiply
from benchmarks.scaling.statements import counted
from isogloss.tracking import log_predictions

DIGEST = "0123456789abcdef" * 4


def log_study() -> tuple[Run, Run]:
    """A study run, and below it an evaluate run with a data set and a logged model."""
    with mlflow.start_run(run_name="parent") as parent:
        with mlflow.start_run(run_name="child", nested=True) as child:
            model = mlflow.initialize_logged_model("adapter", tags={"isogloss.adapter": DIGEST})
            mlflow.set_tags({"isogloss.study": STUDY, "isogloss.fingerprint": DIGEST})
            mlflow.log_params({"seed": 1})
            mlflow.log_metrics({"accuracy/heb_Hebr": 0.5}, model_id=model.model_id)
            data = mlflow.data.from_pandas(pd.DataFrame({"a": [1]}), name="items")
            mlflow.log_input(data, context="test")
            client = mlflow.MlflowClient()
            client.log_inputs(child.info.run_id, models=[LoggedModelInput(model.model_id)])
            log_predictions(pd.DataFrame({"correct": [True]}))
        mlflow.set_tag("isogloss.cells", child.info.run_id)
    return mlflow.get_run(parent.info.run_id), mlflow.get_run(child.info.run_id)


def test_a_copy_is_what_mlflow_would_have_written() -> None:
    parent, child = log_study()
    assert multiply(6, 12) == 6
    runs = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert all(len(run.data.metrics) == 12 for run in runs)
    children = [
        mlflow.get_run(run.info.run_id) for run in runs if run.info.run_name == child.info.run_name
    ]
    original = mlflow.get_run(child.info.run_id)
    copies = [run for run in children if run.info.run_id != child.info.run_id]
    studies = {run.data.tags["isogloss.study"] for run in copies}
    assert studies == {f"{STUDY}-1", f"{STUDY}-2"}
    for copy in copies:
        above = mlflow.get_run(copy.data.tags["mlflow.parentRunId"])
        assert above.info.run_id != parent.info.run_id
        assert above.data.tags["isogloss.cells"] == copy.info.run_id
        assert copy.data.metrics == original.data.metrics
        assert copy.data.params == original.data.params
        assert copy.data.tags.keys() == original.data.tags.keys()
        assert len(copy.data.tags["isogloss.fingerprint"]) == 64
        (data,) = copy.inputs.dataset_inputs
        assert data.to_dictionary() == original.inputs.dataset_inputs[0].to_dictionary()
        (used,) = copy.inputs.model_inputs
        model = mlflow.get_logged_model(used.model_id)
        assert model.tags["isogloss.adapter"] == copy_digest(copy)
        (metric,) = model.metrics
        assert (metric.key, metric.value, metric.run_id) == (
            "accuracy/heb_Hebr",
            0.5,
            copy.info.run_id,
        )
    assert len({run.data.tags["isogloss.fingerprint"] for run in children}) == 3
    assert len(original.inputs.model_inputs) == 1


def copy_digest(copy: Run) -> str:
    """The digest of a copy's adapter: the original's was its fingerprint."""
    return str(copy.data.tags["isogloss.fingerprint"])


def test_statements_and_rows_are_counted() -> None:
    with mlflow.start_run() as run:
        mlflow.log_metrics({str(number): 0.0 for number in range(50)})
    with counted() as first:
        mlflow.get_run(run.info.run_id)
    with counted() as second:
        mlflow.get_run(run.info.run_id)
        mlflow.MlflowClient().set_tag(run.info.run_id, "a", "1")
    assert first.rows > 50
    assert 0 < first.selects < 15
    assert first.writes == 0
    assert second.writes == 1
    mlflow.get_run(run.info.run_id)
    assert second.selects > first.selects
