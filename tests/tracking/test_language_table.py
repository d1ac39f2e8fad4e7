"""The table of languages: MLflow shows it, and it stands in for metrics that were not logged."""

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run

from isogloss.errors import ComparisonError
from isogloss.tracking import log_predictions, metrics_of

TABLE = pd.DataFrame(
    {"language": ["heb_Hebr", "mlt_Latn"], "accuracy": [1 / 3, 0.5], "n": [3.0, 4.0]}
).assign(shortened=[float("nan"), 2.0])


def log_run(**metrics: float) -> Run:
    with mlflow.start_run() as run:
        mlflow.log_metrics(metrics)
        log_predictions(pd.DataFrame({"correct": [True]}), TABLE)
        log_predictions(pd.DataFrame({"correct": [True]}), TABLE)  # by a run that is resumed
    return mlflow.get_run(run.info.run_id)


def test_mlflow_reads_it_as_a_table_and_a_run_that_is_resumed_has_it_once() -> None:
    run = log_run()
    shown = mlflow.load_table("languages.json", run_ids=[run.info.run_id])
    pd.testing.assert_frame_equal(shown, TABLE, check_dtype=False)


def test_values_of_languages_that_are_no_metrics_come_from_the_table() -> None:
    run = log_run(**{"accuracy/mean": 0.4})
    assert metrics_of(run) == {
        "accuracy/heb_Hebr": 1 / 3,
        "accuracy/mlt_Latn": 0.5,
        "n/heb_Hebr": 3,
        "n/mlt_Latn": 4,
        "shortened/mlt_Latn": 2,
        "accuracy/mean": 0.4,
    }


def test_a_run_with_metrics_of_languages_is_not_read_further() -> None:
    run = log_run(**{"n/heb_Hebr": 9})
    assert metrics_of(run) == {"n/heb_Hebr": 9}
    with mlflow.start_run() as older:
        pass
    assert metrics_of(mlflow.get_run(older.info.run_id)) == {}


def test_a_table_that_is_damaged_is_named() -> None:
    run = log_run()
    mlflow.MlflowClient().log_text(run.info.run_id, "{", "languages.json")
    with pytest.raises(ComparisonError, match=r"has no languages\.json that can be read"):
        metrics_of(run)
