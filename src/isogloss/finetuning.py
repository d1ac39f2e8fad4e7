"""Fine-tuning: one adapter on the source language, as one MLflow run."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import mlflow
from mlflow.entities import Run

from isogloss import tracking
from isogloss.adapters import adapter_digest
from isogloss.asking import check_choices
from isogloss.config import FinetuneConfig, TuneConfig
from isogloss.contamination import refuse_overlap
from isogloss.errors import DataError
from isogloss.languages import language
from isogloss.long_inputs import fit_to_model
from isogloss.progress import announce
from isogloss.prompts import PROMPT_VERSION, Protocol, as_shown, require_wording
from isogloss.registry import log_adapter
from isogloss.session import Session
from isogloss.tasks import Item, Task, items, languages_of, open_task
from isogloss.training import Recipe, train


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
    train_items = items(task, config.source, "train", config.limit)
    dev_items = items(task, config.source, "dev", config.dev_limit)
    for name, rows in (("train", train_items), ("dev", dev_items)):
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
    check_choices(model.tokenizer, data.train, protocol)
    train_items, dev_items = (
        fit_to_model(rows, model, protocol, config).items for rows in (data.train, data.dev)
    )
    return SourceData(data.task, train_items, dev_items)


def recipe_of(config: FinetuneConfig) -> Recipe:
    """The part of a configuration that is the training recipe."""
    names = Recipe.__dataclass_fields__
    return Recipe(**{name: getattr(config, name) for name in names})


def finetune(config: FinetuneConfig, session: Session, label: str = "finetune") -> Run:
    """Train an adapter and return its run, or the finished run that has trained the same one.

    Tags of the run: `isogloss.adapter`, the adapter's digest, and `isogloss.adapter_uri`, the
    logged model that holds it.
    """
    data = source_data(config)
    task = data.task
    protocol = session.protocol(config, task)
    recipe = recipe_of(config)
    data_digest = tracking.data_digest(data.train)
    fingerprint = tracking.fingerprint(
        kind="finetune",
        model=session.source.revision,
        data=data_digest,
        prompt=PROMPT_VERSION,
        protocol=asdict(protocol),
        long_inputs=(config.long_inputs, config.max_length),
        dtype=session.dtype,
        recipe={key: value for key, value in asdict(recipe).items() if key != "eval_every"},
    )
    if found := tracking.find_finished(
        "finetune", fingerprint, tracking.choose_experiment(config.experiment)
    ):
        announce(f"{label}: reusing run {found.info.run_id}")
        tracking.note_reuse(found, config.study)
        return found
    tags = {
        "model": config.model,
        "source": config.source,
        "task": task.name,
        "format": protocol.format,
        "reasoning": protocol.reasoning,
        "condition": "tuned",
        "study": config.study,
        "fingerprint": fingerprint,
        "prompt_version": PROMPT_VERSION,
        "prompt_language": protocol.prompt_language,
        "chat": str(protocol.chat).lower(),
        "data_digest": data_digest,
        "dtype": session.dtype,
    }
    model = session.model
    asked = fitted(data, session, protocol, config)
    name = f"finetune {language(config.source).name}"
    with (
        tracking.run("finetune", name, config, tags, config.experiment) as run,
        tempfile.TemporaryDirectory() as scratch,
    ):
        tracking.log_items(data.train, task.name, "train", data_digest)
        folder = Path(scratch) / "adapter"
        train(
            model,
            asked.train,
            asked.dev,
            protocol,
            recipe,
            folder,
            task=task.name,
            description=label,
            log=lambda step, metrics: mlflow.log_metrics(metrics, step=step),
        )
        uri = log_adapter(folder, model, protocol, config.source)
        mlflow.set_tags({"isogloss.adapter": adapter_digest(folder), "isogloss.adapter_uri": uri})
    finished = mlflow.get_run(run.info.run_id)
    announce(f"{label}: dev accuracy {finished.data.metrics['dev/accuracy']:.3f}")
    return finished


def run_finetune(config: FinetuneConfig) -> None:
    """The entry point `finetune`."""
    run = finetune(config, Session(config.model, config.dtype))
    metrics, tags = run.data.metrics, run.data.tags
    print(f"dev accuracy in {config.source}: {metrics['dev/accuracy']:.3f}")
    print(f"adapter {tags['isogloss.adapter_uri']}")
    print(f"run {run.info.run_id}")
