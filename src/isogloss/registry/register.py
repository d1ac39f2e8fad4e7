"""Registering adapters: versions of registered models, their descriptions and aliases."""

from collections.abc import Mapping
from typing import NamedTuple

import mlflow
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from isogloss.config.words import is_registered_name
from isogloss.errors import ConfigError, ModelError
from isogloss.languages import source_name
from isogloss.models.adapter_files import read_adapter
from isogloss.registry.cards import CARD, NOTE, with_results, without_header
from isogloss.registry.lookup import ADAPTER, MODELS, adapter_folder, logged_model_at, model_uri
from isogloss.registry.results import evaluation_results
from isogloss.tracking.artifacts import delete_partial_artifacts
from isogloss.tracking.resume import exclusive
from isogloss.tracking.search import equal
from isogloss.tracking.server import Failure, failure, is_locked, is_missing, reason
from isogloss.tracking.tags import PREFIX, prefixed
from isogloss.types import LanguageCode

CHAMPION = "champion"
PROMOTION = f"{PREFIX}promotion"  # tag of a version: the decision about the alias `champion`


class Registration(NamedTuple):
    """A version, a message about it and its alias, and the tags of its logged model."""

    uri: str
    message: str
    tags: Mapping[str, str]


def check_registrable(name: str | None, task: str, source: LanguageCode) -> None:
    """Raise what `register` would for the name of a model: before an adapter is trained.

    ConfigError for a name that MLflow does not accept; ModelError if it is of another task or
    source.
    """
    chosen = name or automatic_name(task, source)
    if not is_registered_name(chosen):
        raise ConfigError(
            f"register_as auto makes {chosen!r} of the task's name, but MLflow accepts no '/' and "
            "no ':' in names of registered models; expected a name of your own."
        )
    client = mlflow.MlflowClient()
    try:
        registered = client.get_registered_model(chosen)
    except MlflowException as error:
        if is_missing(error):
            return
        raise ModelError(
            f"whether registered model {chosen!r} can have the adapter is not known "
            f"({reason(error)})."
        ) from error
    _check_same(registered, task, source)


def automatic_name(task: str, source: LanguageCode) -> str:
    """The registered model of a task and source, unless a user names one."""
    return f"isogloss-{task}-{source}"


def register(adapter: str, name: str | None, alias: str | None) -> Registration:
    """Make a version of a logged adapter, or take the existing one, and move an alias to it.

    `name` None is isogloss-TASK-SOURCE. The alias `champion` moves only by `promotion`'s rule, the
    others always. The version's description is the adapter's card with the results of all its
    evaluations so far. Raises ModelError if the adapter was not logged by isogloss, or if the
    registered model is for another source or task.
    """
    uri = model_uri(adapter)
    client = mlflow.MlflowClient()
    try:
        logged = logged_model_at(uri)
        tags = logged.tags
        if f"{PREFIX}adapter" not in tags:
            raise ModelError(f"adapter {adapter!r} was not logged by a finetune run of isogloss.")
        task, source = tags[f"{PREFIX}task"], tags[f"{PREFIX}source"]
        name = name or automatic_name(task, source)
        with exclusive(f"register {name}"):  # two versions at once would both be champion
            return _register(client, logged, name, alias)
    except MlflowException as error:
        if failure(error) != Failure.OTHER or is_locked(error):
            raise
        raise ModelError(f"adapter {adapter!r} cannot be registered ({reason(error)}).") from error


def _register(
    client: mlflow.MlflowClient, logged: LoggedModel, name: str, alias: str | None
) -> Registration:
    """`register` for a logged model, while no other process registers under that name."""
    tags = {key: value for key, value in logged.tags.items() if key.startswith(PREFIX)}
    _ensure_registered_model(client, name, tags[f"{PREFIX}task"], tags[f"{PREFIX}source"])
    with adapter_folder(f"{MODELS}{logged.model_id}") as folder:
        read_adapter(folder)  # rejects one that would not be applied, or whose files have changed
    version = _version_of(client, name, logged)
    message = "registered before" if version else "registered"
    if version is None:
        version = client.create_model_version(
            name,
            f"{MODELS}{logged.model_id}",
            logged.source_run_id,
            tags=tags,
            model_id=logged.model_id,  # a server rejects the source without it
        )
    _update_description(client, logged, version)
    if alias is not None:
        message += f"; {_move_alias(client, alias, version, logged)}"
    if logged.tags.get(f"{PREFIX}quick"):
        message += "; this adapter was trained with quick=true, a few steps for a look"
    return Registration(f"{MODELS}{name}/{version.version}", message, tags)


def _version_of(client: mlflow.MlflowClient, name: str, logged: LoggedModel) -> ModelVersion | None:
    """The version of a registered model that was made from a logged model."""
    uri = f"{MODELS}{logged.model_id}"
    versions = client.search_model_versions(equal("name", name))
    return next(
        (version for version in versions if (version.name, version.source) == (name, uri)), None
    )


def _ensure_registered_model(
    client: mlflow.MlflowClient, name: str, task: str, source: LanguageCode
) -> None:
    """Make the registered model of a task and source; ModelError if `name` is of another one."""
    try:
        registered = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        own = prefixed({"task": task, "source": source})
        description = f"Adapters tuned on {source_name(source)} ({source}) for {task}."
        client.create_registered_model(name, tags=own, description=description)
        return
    _check_same(registered, task, source)


def _check_same(registered: RegisteredModel, task: str, source: LanguageCode) -> None:
    """ModelError if a registered model is of another task or source."""
    own, tags = prefixed({"task": task, "source": source}), registered.tags
    if any(tags.get(key, value) != value for key, value in own.items()):
        raise ModelError(
            f"registered model {registered.name!r} is for {tags[f'{PREFIX}task']} and adapters "
            f"tuned on {tags[f'{PREFIX}source']}, but this one is for {task} and tuned on "
            f"{source}; register it under another name."
        )


def _update_description(
    client: mlflow.MlflowClient, logged: LoggedModel, version: ModelVersion
) -> None:
    """Put the card with all results into the version's description and the adapter's README.md."""
    with adapter_folder(f"{MODELS}{logged.model_id}") as folder:
        path = folder / CARD
        results = evaluation_results(logged.tags[f"{PREFIX}adapter"])
        text = with_results(path.read_text("utf-8"), results)
        path.write_text(text, encoding="utf-8")
        delete_partial_artifacts(logged.artifact_location)
        client.log_model_artifact(logged.model_id, str(path), f"artifacts/{ADAPTER}")
    client.set_logged_model_tags(logged.model_id, {NOTE: without_header(text)})
    client.update_model_version(version.name, version.version, without_header(text))


def _move_alias(
    client: mlflow.MlflowClient, alias: str, version: ModelVersion, logged: LoggedModel
) -> str:
    """Move an alias to a version if its rule allows it; return a message about it."""
    name = version.name
    aliases = client.get_registered_model(name).aliases
    current = str(aliases[alias]) if alias in aliases else None
    if current == str(version.version):
        return f"alias {alias} is at version {current}"
    message = f"alias {alias} is at version {version.version}"
    if alias == CHAMPION and current is None:
        client.set_model_version_tag(name, version.version, PROMOTION, "the first champion")
    elif alias == CHAMPION:
        from isogloss.registry.promotion import compare_on_dev  # statistics, which take seconds

        with (
            adapter_folder(f"{MODELS}{name}/{current}") as champion,
            adapter_folder(f"{MODELS}{logged.model_id}") as challenger,
        ):
            promotion = compare_on_dev(champion, challenger)
        client.set_model_version_tag(name, version.version, PROMOTION, promotion.reason)
        if not promotion.promoted:
            return f"NOT promoted, alias {alias} stays at version {current}: {promotion.reason}"
        message += f", until now at version {current}: {promotion.reason}"
    client.set_registered_model_alias(name, alias, version.version)
    return message
