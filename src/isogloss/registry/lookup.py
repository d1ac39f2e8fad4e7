"""Finding an adapter by a folder, the id of a finetune run or a models:/ URI."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException

from isogloss.errors import ModelError
from isogloss.files import looked_for, user_path
from isogloss.models.adapter_files import adapter_digest
from isogloss.tracking import tag
from isogloss.tracking.project_run import Link
from isogloss.tracking.search import existing_run, experiments
from isogloss.tracking.server import hides_artifacts, reason
from isogloss.tracking.similar import similar_runs
from isogloss.tracking.tags import PREFIX, RunKind
from isogloss.training.contamination import RECORD
from isogloss.training.dev_predictions import DEV_PREDICTIONS

MODELS = "models:/"
RUNS = "runs:/"  # where a server without logged models has an adapter
NO_ENDPOINT = ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")
ADAPTER = "adapter"  # name of a logged model, and of the adapter's folder in it
DEV_ACCURACY = "dev/accuracy"  # metric of a finetune run, if its adapter was measured


@dataclass(frozen=True)
class AdapterRef:
    """An adapter that is known by its digest; `folder` downloads it if it has to be read."""

    digest: str
    folder: Callable[[], AbstractContextManager[Path]]

    @classmethod
    def in_folder(cls, folder: Path) -> "AdapterRef":
        """The adapter in a local folder."""
        return cls(adapter_digest(folder), lambda: nullcontext(folder))


@contextmanager
def adapter_folder(adapter: str) -> Iterator[Path]:
    """The local folder of an adapter, a temporary one if it is downloaded.

    Raises ModelError if there is no such adapter, or if its files are not those that were logged.
    """
    path = user_path(adapter)
    if path.is_dir():
        yield path
        return
    uri = model_uri(adapter)
    recorded = None
    with tempfile.TemporaryDirectory() as scratch:
        try:
            if not uri.startswith(RUNS):
                logged = logged_model_at(uri)
                recorded = logged.tags.get(f"{PREFIX}adapter")
                if recorded is not None:  # the code beside the adapter is not needed
                    uri = f"{logged.artifact_location}/artifacts/{ADAPTER}"
            local = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=scratch)
        except (MlflowException, OSError) as error:
            raise ModelError(f"adapter {adapter!r} cannot be fetched ({reason(error)}).") from error
        folders = [path.parent for path in Path(local).rglob("adapter_config.json")]
        if not folders:
            raise ModelError(f"model {uri!r} has no adapter.")
        if recorded is not None and adapter_digest(folders[0]) != recorded:
            raise ModelError(
                f"adapter {adapter!r} is not the one that was logged: its files have changed."
            )
        yield folders[0]


def adapter_problem(run: Run) -> str | None:
    """Why the adapters that a finetune run logged cannot be used, as a clause; None if they can.

    MLflow's errors are raised if it does not answer.
    """
    beside = (RECORD, *([DEV_PREDICTIONS] if DEV_ACCURACY in run.data.metrics else []))
    digests: dict[str, str] = {}
    for name in ("last_uri", "best_uri", "adapter_uri"):  # the last is one of the others
        uri = tag(run, name) or MODELS
        if uri not in digests:
            try:
                with adapter_folder(uri) as folder:
                    missing = [file for file in beside if not (folder / file).is_file()]
                    digests[uri] = adapter_digest(folder)
            except ModelError as error:
                cause = error.__cause__
                if cause and hides_artifacts(cause):
                    raise
                return str(error).removesuffix(".")
            if missing:
                return f"its adapter has no {missing[0]}"
    if digests[uri] != tag(run, "adapter"):
        return "its adapter is not the one that was logged"
    return None


def model_uri(adapter: str) -> str:
    """The URI of an adapter given by the id of a finetune run or by such a URI.

    It is models:/ID, or runs:/ID/FOLDER if the server has no logged models. Raises ModelError if
    the adapter is neither, or if the run has logged none.
    """
    if adapter.startswith((MODELS, RUNS)):
        return adapter
    run = existing_run(adapter)
    if run is None:
        raise ModelError(
            f"adapter {adapter!r} is neither a folder, the id of a run nor a models:/ URI"
            f"{looked_for(adapter)}{similar_runs(adapter, RunKind.FINETUNE)}"
        )
    for link in Link:
        if linked := tag(run, link):
            return model_uri(linked)
    uri = tag(run, "adapter_uri")
    if uri is None:
        raise ModelError(f"run {adapter!r} has logged no adapter; expected a finetune run.")
    return uri


def logged_model(digest: str) -> str | None:
    """The id of the newest logged model, in any experiment, that has that adapter."""
    experiment_ids = [experiment.experiment_id for experiment in experiments()]
    if not has_logged_models(experiment_ids[0]):
        return None
    models = mlflow.MlflowClient().search_logged_models(
        experiment_ids,
        f"tags.`{PREFIX}adapter` = '{digest}'",
        order_by=[{"field_name": "creation_time", "ascending": False}],
    )
    # MLflow 3.17 stores the status as a number, which PostgreSQL does not compare with a name.
    ready = [model for model in models if model.status == LoggedModelStatus.READY]
    return str(ready[0].model_id) if ready else None


def has_logged_models(experiment_id: str) -> bool:
    """Whether the server keeps logged models; those before MLflow 3 do not."""
    try:
        mlflow.MlflowClient().search_logged_models([experiment_id], max_results=1)
    except MlflowException as error:
        if error.error_code in NO_ENDPOINT:
            return False
        raise
    return True


def logged_model_at(uri: str) -> LoggedModel:
    """The logged model of models:/ID, models:/NAME/VERSION or models:/NAME@ALIAS.

    Raises ModelError if the version was made from something else, or if the URI is of a run.
    """
    if uri.startswith(RUNS):
        raise ModelError(
            f"adapter {uri!r} is not a logged model, because the server it was logged to keeps "
            f"none; registering needs a server of MLflow 3."
        )
    client = mlflow.MlflowClient()
    reference = uri.removeprefix(MODELS)
    if "@" in reference:
        origin = client.get_model_version_by_alias(*reference.rsplit("@", 1)).source
    elif "/" in reference:
        origin = client.get_model_version(*reference.rsplit("/", 1)).source
    else:
        origin = uri
    # Only a version's source has the logged model's id: its model_id is empty.
    if origin is None or not origin.startswith(MODELS):
        raise ModelError(f"model {uri!r} is a version of {origin}, which is not a logged model.")
    return client.get_logged_model(origin.removeprefix(MODELS))
