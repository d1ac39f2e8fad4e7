"""Fine-tuning: one adapter on the source language, as one MLflow run."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import yaml
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss import tracking
from isogloss.config import FinetuneConfig, Hyperparameters, SharedConfig, TuneConfig
from isogloss.config.study_files import read_recipe, recipe_values
from isogloss.errors import ConfigError, DataError
from isogloss.inference.context_window import fit_to_model
from isogloss.languages import language
from isogloss.models.adapters import adapter_digest
from isogloss.models.lora import has_experts, reject_dropout
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import PROMPT_VERSION, as_shown, require_wording
from isogloss.prompts.tokenisation import letter_tokens
from isogloss.registry.logging import TrainedAdapter, log_adapter
from isogloss.registry.register import register
from isogloss.stages.session import Session
from isogloss.tasks import Item, Task, items, languages_of, open_task
from isogloss.tracking import RunKind, RunTags
from isogloss.tracking.metric_log import MetricLog
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.server import uploading
from isogloss.training.contamination import refuse_overlap
from isogloss.training.loop import TrainingJob, TrainingResult, recipe_lora_config, train
from isogloss.training.recipe import Recipe
from isogloss.types import Condition, Split

logger = logging.getLogger(__name__)

BEST = "best.yaml"


class SourceData(NamedTuple):
    """The task, its training and its dev items, both in the source language."""

    task: Task
    train: list[Item]
    dev: list[Item]


def source_data(config: FinetuneConfig | TuneConfig) -> SourceData:
    """What a configuration trains and measures on; DataError if a passage is in both."""
    task = open_task(config.task, config.data_dir)
    languages_of(task, (config.source,))
    require_wording((config.source,), config.prompt_language)
    train_items = items(task, config.source, Split.TRAIN, config.limit)
    dev_items = items(task, config.source, Split.DEV, config.dev_limit)
    for name, rows in ((Split.TRAIN, train_items), (Split.DEV, dev_items)):
        if not rows:
            raise DataError(f"task {task.name!r} has no {name} items in {config.source}.")
    refuse_overlap(train_items, dev_items, task.name)
    shuffle_seed = config.seed if config.shuffle_options else None
    return SourceData(
        task,
        as_shown(train_items, config.prompt_language, shuffle_seed),
        as_shown(dev_items, config.prompt_language, shuffle_seed),
    )


def fitted(
    data: SourceData, session: Session, protocol: Protocol, config: FinetuneConfig | TuneConfig
) -> SourceData:
    """The data as they fit the model's context window; see `long_inputs`."""
    model = session.model
    letter_tokens(model.tokenizer, data.train, protocol)
    train_items, dev_items = (
        fit_to_model(rows, model, protocol, config).items for rows in (data.train, data.dev)
    )
    return SourceData(data.task, train_items, dev_items)


def recipe_of(config: FinetuneConfig) -> Recipe:
    """The training recipe of a configuration: what it gives, else what its `recipe` decides.

    ConfigError if it asks for LoRA on experts with dropout.
    """
    given = {
        name: value
        for name in Hyperparameters.model_fields
        if (value := getattr(config, name)) is not None
    }
    decided = {} if config.recipe is None else recipe_named(config.recipe, config)
    values = Hyperparameters(**{**decided, **given}).model_dump()
    if has_experts(values["target_modules"]):
        reject_dropout(values["dropout"], values["target_modules"])
    return Recipe(
        **values, seed=config.seed, eval_every=config.eval_every, patience=config.patience
    )


def recipe_named(recipe: str, config: SharedConfig) -> dict[str, Any]:
    """Hyperparameters from a file, or from the best.yaml of a tune run given by its id.

    Says so if that run searched for something else than `config` is about. ConfigError if there is
    no such recipe.
    """
    if Path(recipe).exists() or len(recipe) != 32:
        return read_recipe(Path(recipe))
    try:
        tags = mlflow.get_run(recipe).data.tags
        text = mlflow.artifacts.load_text(f"runs:/{recipe}/{BEST}")
    except (MlflowException, OSError) as error:
        raise ConfigError(
            f"recipe {recipe!r} is neither a file nor the id of a tune run."
        ) from error
    searched = {
        name: tags.get(f"isogloss.{name}")
        for name in ("model", "task", "source", "format", "prompt_language")
    }
    others = [
        f"{name} {there}, here {getattr(config, name)}"
        for name, there in searched.items()
        if there is not None and getattr(config, name) not in (None, there)
    ]
    if others:
        logger.info(f"the recipe was searched with {'; '.join(others)}")
    return recipe_values(yaml.safe_load(text), repr(recipe))


def finetune(config: FinetuneConfig, session: Session, label: str = "finetune") -> Run:
    """Train an adapter and return its run, or the finished run that has trained the same one.

    What an earlier process has left unfinished is gone on with, in its run. Tags of the run:
    `isogloss.last_uri` and `isogloss.best_uri`, the logged models with the adapters after the last
    step and after the best dev measurement; `isogloss.adapter_uri`, the one that `keep` names, and
    `isogloss.adapter`, its digest.
    """
    data = source_data(config)
    protocol = session.protocol(config, data.task)
    recipe = recipe_of(config)
    fingerprint = tracking.fingerprint(
        kind="finetune",
        model=session.location.revision,
        data=tracking.data_digest(data.train),
        dev=tracking.data_digest(data.dev),
        prompt=PROMPT_VERSION,
        protocol=protocol.as_dict(),
        long_inputs=(config.long_inputs, config.max_length),
        **session.numerics,
        recipe=_deciding(recipe, config.keep),
        keep=config.keep,
    )
    with tracking.reuse_or_lock(RunKind.FINETUNE, fingerprint, config) as (work, found):
        if found:
            logger.info(f"{label}: reusing run {found.info.run_id}")
        run = found or _train(config, session, data, protocol, recipe, fingerprint, work, label)
    if config.register_as is not None:
        name = None if config.register_as == "auto" else config.register_as
        version = register(run.data.tags["isogloss.adapter_uri"], name, "candidate")
        logger.info(f"{version.uri}: {version.message}")
    logger.info(f"{label}: dev accuracy {run.data.metrics['dev/accuracy']:.3f}")
    return run


def _deciding(recipe: Recipe, keep: str) -> dict[str, object]:
    """What of a recipe decides the adapter: when dev is measured, only where that chooses it."""
    chosen = recipe.patience is not None or keep == "best"
    return {name: value for name, value in asdict(recipe).items() if chosen or name != "eval_every"}


def _train(
    config: FinetuneConfig,
    session: Session,
    data: SourceData,
    protocol: Protocol,
    recipe: Recipe,
    fingerprint: str,
    work: WorkDir,
    label: str,
) -> Run:
    """Train in a run of its own, or go on in the run that the work was begun in."""
    task = data.task
    tags = replace(
        session.run_tags(config, task, protocol, Condition.TUNED),
        fingerprint=fingerprint,
        data_digest=tracking.data_digest(data.train),
        dev_digest=tracking.data_digest(data.dev),
    )
    model = session.model
    asked = fitted(data, session, protocol, config)
    recipe_lora_config(model, recipe)  # rejects a recipe before there is a run
    name = f"finetune {language(config.source).name}"
    with tracking.open_run(
        RunKind.FINETUNE, name, config, tags.as_dict(), config.experiment, work
    ) as run:
        run_id = run.info.run_id
        mlflow.log_params({f"recipe.{key}": value for key, value in asdict(recipe).items()})
        tracking.log_items(data.train, task.name, Split.TRAIN)
        tracking.log_items(data.dev, task.name, Split.DEV)
        with MetricLog(work.folder, lambda: run_id) as metrics:
            job = TrainingJob(
                task=task.name,
                train_items=asked.train,
                dev_items=asked.dev,
                protocol=protocol,
                recipe=recipe,
                folder=work.folder,
                description=label,
                checkpoint_every=config.checkpoint_every,
                gradient_checkpointing=config.gradient_checkpointing,
            )
            trained = train(model, job, log=metrics.log)
        if trained.last_step < recipe.steps:
            logger.info(f"{label}: stopped early, after step {trained.last_step}")
        with uploading(work.folder):
            _log(trained, config, session, protocol, tags)
    return mlflow.get_run(run_id)


def _log(
    trained: TrainingResult,
    config: FinetuneConfig,
    session: Session,
    protocol: Protocol,
    tags: RunTags,
) -> None:
    """Log the adapters to the open run as models: the last one, and the best if it is another."""
    uris = {}
    kept = trained.best if config.keep == "best" else trained.last
    steps = {trained.last: trained.last_step, trained.best: trained.best_step}
    measured = {trained.last: trained.dev, trained.best: trained.best_dev}
    for folder, step in steps.items():
        adapter = TrainedAdapter(folder, step, measured[folder], config, protocol, tags)
        uris[folder] = log_adapter(adapter, session.model)
    mlflow.set_tags(
        {
            "isogloss.last_uri": uris[trained.last],
            "isogloss.best_uri": uris[trained.best],
            "isogloss.best_step": str(trained.best_step),
            "isogloss.adapter": adapter_digest(kept),
            "isogloss.adapter_uri": uris[kept],
        }
    )


def run_finetune(config: FinetuneConfig) -> None:
    """The entry point `finetune`."""
    run = finetune(config, Session.of(config))
    metrics, tags = run.data.metrics, run.data.tags
    print(f"dev accuracy in {config.source}: {metrics['dev/accuracy']:.3f}")
    print(f"adapter {tags['isogloss.adapter_uri']}")
    print(f"run {run.info.run_id}")
