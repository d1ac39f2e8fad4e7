"""Artifacts and input data sets of runs."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import pandas as pd
import pyarrow
import pyarrow.parquet
from mlflow.data.pandas_dataset import PandasDataset, from_pandas
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.uri import append_to_uri_path

from isogloss.compat.mlflow import http_status
from isogloss.errors import ComparisonError, TrackingError
from isogloss.files import file_sha256
from isogloss.tasks import Item
from isogloss.tracking.fingerprints import data_digest
from isogloss.tracking.server import UNREACHABLE, hides_artifacts, reason
from isogloss.tracking.shared_rows import insert_shared
from isogloss.tracking.tags import PREFIX, tag
from isogloss.tracking.versions import parse_versions, versions_text

PREDICTIONS = "predictions.parquet"
LANGUAGES = "languages.json"  # metrics of single languages, as a table of MLflow's
TABLES = "mlflow.loggedArtifacts"  # tag: the artifacts that the UI shows as tables
PARTIAL = ".artifact.uploading."  # of the names that MLflow gives to files that it is writing
DIGESTS = "artifacts"  # tag: sha256 of each artifact
LOOPBACK = ("localhost", "127.0.0.1", "::1")
DIGEST_LENGTH = 36  # the longest that MLflow stores


def log_items(items: Sequence[Item], task: str, split: str) -> PandasDataset:
    """Log the items as an input data set of the open run; return it."""
    data_set = from_pandas(
        pd.DataFrame([asdict(item) for item in items]),
        name=f"{task}-{split}",
        digest=data_digest(items)[:DIGEST_LENGTH],
    )
    insert_shared(lambda: mlflow.log_input(data_set, context=split))
    return data_set


def log_predictions(predictions: pd.DataFrame, languages: pd.DataFrame | None = None) -> None:
    """Log predictions.parquet to the open run, and languages.json if there is a table of them.

    That is a table as `mlflow.log_table` writes it, which would append to that of a run resumed.
    """
    with tempfile.TemporaryDirectory() as folder:
        predictions.to_parquet(Path(folder) / PREDICTIONS, index=False)
        if languages is not None:
            known = languages.astype(object).where(languages.notna(), None)
            text = json.dumps(known.to_dict("split", index=False))
            (Path(folder) / LANGUAGES).write_text(text, encoding="utf-8")
            mlflow.set_tag(TABLES, json.dumps([{"path": LANGUAGES, "type": "table"}]))
        log_folder(Path(folder))


def log_folder(folder: Path, artifact_folder: str | None = None) -> None:
    """Log the files of a folder to the open run, and their sha256 as a tag."""
    mlflow.log_artifacts(str(folder), artifact_folder)
    above = f"{artifact_folder}/" if artifact_folder else ""
    digests = {f"{above}{path.name}": file_sha256(path) for path in sorted(folder.iterdir())}
    mlflow.set_tag(f"{PREFIX}{DIGESTS}", versions_text(digests))


def artifact_digests(run: Run) -> dict[str, str]:
    """The sha256 of each artifact that a run recorded, by its path."""
    return parse_versions(tag(run, DIGESTS) or "")


def damage(run: Run, required: Sequence[str]) -> str | None:
    """Why the artifacts of a run are not those that it logged, as a clause; None if they are.

    Reads every recorded artifact. MLflow's errors are raised if it does not answer.
    """
    recorded = artifact_digests(run)
    if missing := [name for name in required if name not in recorded]:
        return f"it has no record of {missing[0]}"
    listed: dict[str, set[str]] = {}  # names by folder
    for name, sha256 in recorded.items():
        folder, _, file = name.rpartition("/")
        try:
            if folder not in listed:
                listed[folder] = _files(run, folder)
            if file not in listed[folder]:
                return f"its artifact {name} is gone"
            with _downloaded(run, name) as path:
                if file_sha256(path) != sha256:
                    return f"its artifact {name} is not the file that was logged"
        except (MlflowException, OSError) as error:
            if hides_artifacts(error):
                raise
            return f"its artifact {name} cannot be read ({reason(error)})"
    return None


# The address of a run's artifacts is known: by the id of the run, MLflow would read it again.


def _files(run: Run, folder: str) -> set[str]:
    """The names of the files in a folder of a run's artifacts; the topmost one is empty."""
    uri = append_to_uri_path(run.info.artifact_uri, folder)
    entries = mlflow.artifacts.list_artifacts(artifact_uri=uri.rstrip("/"))
    return {PurePosixPath(entry.path).name for entry in entries}


@contextmanager
def _downloaded(run: Run, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(
            artifact_uri=append_to_uri_path(run.info.artifact_uri, name), dst_path=folder
        )
        yield Path(path)


def read_predictions(run_id: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The predictions.parquet of an evaluate run: all columns, or those of `columns` it has.

    Raises ComparisonError if the run has no such file, or not the one that it logged.
    """
    try:
        run = mlflow.get_run(run_id)
        recorded = artifact_digests(run).get(PREDICTIONS)
        with _downloaded(run, PREDICTIONS) as path:
            if recorded is not None and file_sha256(path) != recorded:
                raise ComparisonError(
                    f"{PREDICTIONS} of run {run_id!r} is not the file that was logged; "
                    f"repeat the command that made the run."
                )
            if columns is not None:
                available = pyarrow.parquet.read_schema(path).names
                columns = [column for column in columns if column in available]
            return pd.read_parquet(path, columns=columns)
    except (MlflowException, OSError) as error:
        if hides_artifacts(error):
            raise
        raise ComparisonError(
            f"run {run_id!r} has no {PREDICTIONS} that can be read ({reason(error)}); repeat "
            f"the command that made the run."
        ) from error
    except pyarrow.ArrowInvalid as error:
        raise ComparisonError(f"{PREDICTIONS} of run {run_id!r} is not a Parquet file.") from error


def metrics_of(run: Run) -> dict[str, float]:
    """The metrics of an evaluate run; those of languages from its table if they are nowhere else.

    Raises ComparisonError if that table cannot be read.
    """
    metrics: dict[str, float] = run.data.metrics
    logged = any(name.startswith("n/") for name in metrics)
    if logged or LANGUAGES not in artifact_digests(run):
        return metrics
    try:
        with _downloaded(run, LANGUAGES) as path:
            table = json.loads(path.read_text("utf-8"))
    except (MlflowException, OSError, ValueError) as error:
        if hides_artifacts(error):
            raise
        raise ComparisonError(
            f"run {run.info.run_id!r} has no {LANGUAGES} that can be read ({reason(error)}); "
            f"repeat the command that made the run."
        ) from error
    _, *names = table["columns"]
    of_languages = {
        f"{name}/{code}": float(value)
        for code, *values in table["data"]
        for name, value in zip(names, values, strict=True)
        if value is not None
    }
    return of_languages | metrics


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
        if http_status(error) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            remedy = "raise the limit of the proxy in front of the server"
        else:
            remedy = "choose an experiment with another location, or repair this one"
        raise TrackingError(
            f"artifacts cannot be written to {run.info.artifact_uri} ({reason(error)}); {remedy}."
        ) from error


def delete_partial_artifacts(location: str) -> None:
    """Delete what a killed process left of artifacts that it was writing, if they are in a folder.

    `location` is the address of the artifacts of a run or a logged model.
    """
    place = urlsplit(location)
    if place.scheme in ("", "file"):
        for path in Path(url2pathname(place.path)).rglob(f"{PARTIAL}*"):
            path.unlink(missing_ok=True)


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
