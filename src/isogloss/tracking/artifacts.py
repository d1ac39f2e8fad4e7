"""Artifacts and input data sets of runs."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pandas as pd
import pyarrow.parquet
from mlflow.data.pandas_dataset import PandasDataset, from_pandas
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss.errors import ComparisonError, TrackingError
from isogloss.tasks import Item
from isogloss.tracking.fingerprints import data_digest
from isogloss.tracking.server import UNREACHABLE, Failure, failure, reason

PREDICTIONS = "predictions.parquet"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
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
            if failure(error) in (Failure.NO_ANSWER, Failure.ACCESS_DENIED):
                raise
            raise ComparisonError(f"run {run_id!r} has no {PREDICTIONS}.") from error
        if columns is not None:
            available = pyarrow.parquet.read_schema(path).names
            columns = [column for column in columns if column in available]
        return pd.read_parquet(path, columns=columns)


@contextmanager
def writing_artifacts(run: Run) -> Iterator[None]:
    """Context of the first artifact of a run; TrackingError if its store cannot be written to."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"artifacts go to {run.info.artifact_uri}, for which the Python package "
            f"{error.name!r} is needed and not installed."
        ) from error
    except UNREACHABLE as error:
        raise TrackingError(
            f"artifacts cannot be written to {run.info.artifact_uri} ({reason(error)}); start the "
            f"server with --artifacts-destination, or choose an experiment with another location."
        ) from error


def require_reachable_artifacts(experiment_id: str) -> None:
    """Raise TrackingError if artifacts would go to a folder that only the server's machine has.

    MLflow would create it here, and nobody else would see what is in it.
    """
    server = urlsplit(mlflow.get_tracking_uri())
    if server.scheme not in ("http", "https") or server.hostname in LOOPBACK:
        return
    location = mlflow.get_experiment(experiment_id).artifact_location
    place = urlsplit(location)
    folder = Path(place.path)
    if place.scheme in ("", "file") and not (folder.exists() or folder.parent.exists()):
        raise TrackingError(
            f"artifacts of experiment {experiment_id} go to {location}, a folder that this machine "
            f"does not have; start the server with --artifacts-destination, or mount the folder."
        )


def artifact_path(run: Run, name: str) -> str:
    """The path of a run's artifact if it is on this machine, else its URI."""
    uri = f"{run.info.artifact_uri}/{name}"
    return uri.removeprefix("file://")
