"""Artifacts and input data sets of runs."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet
from mlflow.data.pandas_dataset import PandasDataset, from_pandas
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss.errors import ComparisonError
from isogloss.tasks import Item
from isogloss.tracking.fingerprints import data_digest

PREDICTIONS = "predictions.parquet"
DIGEST_LENGTH = 36  # the longest that MLflow stores


def log_items(items: Sequence[Item], task: str, split: str) -> PandasDataset:
    """Log the items as an input data set of the open run; return it."""
    data_set = from_pandas(
        pd.DataFrame([asdict(item) for item in items]),
        name=f"{task}-{split}",
        digest=data_digest(items)[:DIGEST_LENGTH],
    )
    mlflow.log_input(data_set, context=split)
    return data_set


def log_predictions(predictions: pd.DataFrame) -> None:
    """Log predictions.parquet to the open run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PREDICTIONS
        predictions.to_parquet(path, index=False)
        mlflow.log_artifact(str(path))


def read_predictions(run_id: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The predictions.parquet of an evaluate run: all columns, or those of `columns` it has.

    Raises ComparisonError if the run has no such file.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=PREDICTIONS, dst_path=folder
            )
        except (MlflowException, OSError) as error:
            raise ComparisonError(f"run {run_id!r} has no {PREDICTIONS}.") from error
        if columns is not None:
            available = pyarrow.parquet.read_schema(path).names
            columns = [column for column in columns if column in available]
        return pd.read_parquet(path, columns=columns)


def artifact_path(run: Run, name: str) -> str:
    """The path of a run's artifact if it is on this machine, else its URI."""
    uri = f"{run.info.artifact_uri}/{name}"
    return uri.removeprefix("file://")
