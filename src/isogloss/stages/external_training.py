"""Fine-tuning by an external trainer: a command in place of this process's training loop."""

import gc
import json
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import mlflow
import torch
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss import tracking
from isogloss.config.train_command import (
    Placeholder,
    command_facts,
    placeholders,
    split_words,
)
from isogloss.errors import ModelError, TrainingError
from isogloss.files import write_whole
from isogloss.inference.predict import predict
from isogloss.models.adapters import attach
from isogloss.models.locate import ModelLocation
from isogloss.models.lora import lora_config
from isogloss.models.skeleton import skeleton
from isogloss.predictions.table import frame
from isogloss.registry.lookup import adapter_problem
from isogloss.stages.finetune_plan import FinetunePlan
from isogloss.stages.outside_adapter import (
    OutsideTraining,
    fitted_data,
    has_config,
    log_outside_adapter,
    take_adapter,
)
from isogloss.stages.session import Session
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.runs import active_run
from isogloss.tracking.server import UNREACHABLE, uploading
from isogloss.tracking.tags import RunKind, prefixed
from isogloss.tracking.versions import versions_text
from isogloss.training.dev_predictions import CONTENT, DEV_PREDICTIONS, content_digest
from isogloss.training.early_stopping import DevScore, dev_score
from isogloss.training.external import (
    Attempt,
    failure_sentence,
    find_adapter,
    new_attempt,
    require_program,
    run_trainer,
    status_of,
)
from isogloss.training.external_data import (
    Exactness,
    exactness,
    recipe_facts,
    trainer_items,
    write_json,
)
from isogloss.training.recipe import Recipe
from isogloss.types import EngineKind, Split

logger = logging.getLogger(__name__)

SECONDS = "train/seconds"  # metric
ADAPTER = "last"  # folder of the adapter in a work folder, as after a training in process
VERSIONS = "versions.json"  # what a command may leave in {output}: versions of its libraries
ARTIFACTS = "trainer"  # folder of the command's log and recipe in a run
DIGEST_LENGTH = 16


def train_outside(
    plan: FinetunePlan, command: str, session: Session, work: WorkDir, label: str
) -> Run:
    """Train by a command in a new run, or in the run that an interrupted process left.

    The base model is not in memory meanwhile. An adapter that the command has finished is taken
    over even if isogloss was interrupted later. Raises TrainingError if the command fails, and
    ModelError for an adapter that is not one of this base model.
    """
    config, task, recipe = plan.config, plan.data.task, plan.recipe
    require_program(split_words(command))
    digest = tracking.fingerprint(**command_facts(command))[:DIGEST_LENGTH]
    data, tokenizer = fitted_data(plan, session)
    described = f"the command {digest}"
    training = OutsideTraining(plan, data, tokenizer, label, EngineKind.COMMAND, described)
    _free_memory(session)
    name = plan.run_name
    tags = plan.tags.as_dict() | {"trainer": training.trainer, "trainer_digest": digest}
    with tracking.open_run(RunKind.FINETUNE, name, config, tags, config.experiment, work) as run:
        mlflow.log_params(
            {
                f"recipe.{key}": value
                for key, value in asdict(recipe).items()
                if key not in ("eval_every", "patience")
            }
        )
        tracking.log_items(plan.data.train, task.name, Split.TRAIN)
        tracking.log_items(plan.data.dev, task.name, Split.DEV)
        folder = work.folder / ADAPTER
        if folder.is_dir():
            logger.info(f"{label}: the adapter of the training command is on disk")
        else:
            attempt = new_attempt(work.folder)
            _train(training, command, session, attempt, folder, work.lease.require)
        try:
            dev = _measure(training, session, folder)
        except ModelError:  # another attempt may leave one that can be used
            shutil.rmtree(folder)
            raise
        work.lease.require()
        with uploading(work.folder):
            tracking.require_first(RunKind.FINETUNE, plan.fingerprint, run, work, adapter_problem)
            log_outside_adapter(training, session, folder, dev)
    return mlflow.get_run(run.info.run_id)


def _free_memory(session: Session) -> None:
    """Give the memory of the model in this process back, also that which torch keeps on a GPU."""
    session.unload()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _train(
    training: OutsideTraining,
    command: str,
    session: Session,
    attempt: Attempt,
    target: Path,
    check: Callable[[], None],
) -> None:
    """Write the files, run the command and take over its adapter; `check` raises to end it."""
    values = _write_files(training, command, session, attempt)
    words = split_words(command)
    started = time.monotonic()
    code: int | None = None
    try:
        code = run_trainer(words, values, attempt, training.label, check)
    finally:  # also after an interrupt, which no error of the server may hide
        with suppress(*UNREACHABLE, MlflowException):
            status = "interrupted" if code is None else status_of(code)
            mlflow.set_tags(prefixed({"trainer_status": status}))
            for file in (attempt.recipe, attempt.log):  # log_artifact would copy permissions, too
                mlflow.log_text(file.read_text("utf-8", "replace"), f"{ARTIFACTS}/{file.name}")
    if code != 0:
        raise TrainingError(failure_sentence(code, attempt.log))
    if SECONDS not in mlflow.get_run(active_run().info.run_id).data.metrics:
        mlflow.log_metric(SECONDS, time.monotonic() - started)
    if versions := _versions(attempt.output):
        mlflow.set_tags(prefixed({"trainer_versions": versions}))
    folder = session.location.folder
    names = {_model(session), str(folder), str(folder.resolve())}
    take_adapter(training, session, find_adapter(attempt.output), target, names)


def _write_files(
    training: OutsideTraining, command: str, session: Session, attempt: Attempt
) -> dict[Placeholder, str]:
    """Write items and recipe; return the values of the placeholders."""
    plan, tokenizer = training.plan, training.tokenizer
    recipe = plan.recipe
    paths: dict[str, Path] = {}
    longest, exact = 0, Exactness(text=True, chat=True)
    for split, items in ((Split.TRAIN, training.data.train), (Split.DEV, training.data.dev)):
        written = trainer_items(items, plan.protocol, tokenizer)
        files = attempt.data(split)
        written.write(*files.values())
        paths |= files
        longest = max(longest, *(len(row.input_ids) for row in written.tokens))
        of_split = exactness(written, plan.protocol, tokenizer)
        exact = Exactness(exact.text and of_split.text, exact.chat and of_split.chat)
    _warn_of_other_prompts(command, exact)
    location = session.location
    values = {
        Placeholder.RECIPE: str(attempt.recipe),
        Placeholder.OUTPUT: str(attempt.output),
        Placeholder.MODEL: _model(session),
        **{Placeholder(name): str(path) for name, path in paths.items()},
        **{
            Placeholder(name): str(value)
            for name, value in asdict(recipe).items()
            if name in list(Placeholder)
        },
    }
    facts = recipe_facts(
        recipe,
        plan.protocol,
        exact,
        model={"path": _model(session), "name": location.name, "revision": location.revision},
        task=training.data.task.name,
        source=plan.config.source,
        items={"train": len(training.data.train), "dev": len(training.data.dev)},
        longest_tokens=longest,
        peft=_targets(recipe, location) if has_config(session) else None,
        files={name: values[Placeholder(name)] for name in (*paths, "output")},
    )
    write_json(attempt.recipe, facts)
    return values


def _targets(recipe: Recipe, location: ModelLocation) -> dict[str, object]:
    """What gets LoRA, as peft's LoraConfig takes it."""
    config = lora_config(
        skeleton(location), recipe.target_modules, recipe.rank, recipe.alpha, recipe.dropout
    )
    modules = config.target_modules
    return {
        "target_modules": modules if isinstance(modules, str) else sorted(modules or ()),
        "target_parameters": config.target_parameters,
    }


def _model(session: Session) -> str:
    """What a trainer loads: the folder of the model, or its name if the folder has no weights."""
    folder = session.location.folder
    return str(folder.absolute()) if any(folder.glob("*.safetensors")) else session.location.name


def _warn_of_other_prompts(command: str, exact: Exactness) -> None:
    """Warn if a command reads a layout from which it would train on other tokens."""
    named = placeholders(command)
    for name, is_exact in ((Placeholder.TRAIN, exact.text), (Placeholder.TRAIN_CHAT, exact.chat)):
        if name in named and not is_exact:
            logger.warning(
                f"engine.train reads {{{name}}}, from which the model's tokenizer gives other "
                f"tokens than evaluations do; {{{Placeholder.TRAIN_TOKENS}}} has the same"
            )


def _versions(output: Path) -> str | None:
    """The versions that a command left, as the value of a tag; None if it left none."""
    path = output / VERSIONS
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        logger.warning(f"{VERSIONS} of the training command is not a mapping in JSON; not recorded")
        return None
    return versions_text({str(name): str(version) for name, version in content.items()})


def _measure(training: OutsideTraining, session: Session, folder: Path) -> DevScore | None:
    """Score the dev items without and with the adapter, in this process; log both scores.

    Raises ModelError for an adapter that changes no output.
    """
    plan = training.plan
    if session.served:
        return None  # the weights are the server's, and the adapter is not loaded there
    model, task = session.model, training.data.task.name
    digest = attach(model, folder)
    score = None
    for step, adapter in ((0, None), (plan.recipe.steps, digest)):
        with model.using(adapter):
            predictions = predict(model, training.data.dev, plan.protocol, task)
        score = dev_score(predictions)
        scores = {f"dev/{name}": value for name, value in score._asdict().items()}
        tracking.log_metrics_once(scores, step=step)
    table = frame(predictions)
    table[CONTENT] = list(map(content_digest, training.data.dev))
    write_whole(folder / DEV_PREDICTIONS, table.to_parquet(index=False))
    return score
