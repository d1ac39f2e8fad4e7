"""Fine-tuning by an external trainer: a command in place of this process's training loop."""

import gc
import json
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import mlflow
import torch
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss import tracking
from isogloss.compat.interfaces import Tokenizer
from isogloss.config.train_command import (
    Placeholder,
    command_facts,
    placeholders,
    split_words,
)
from isogloss.errors import ModelError, TrainingError
from isogloss.files import whole_folder, write_whole
from isogloss.inference.context_window import fit, window_of
from isogloss.inference.predict import predict
from isogloss.languages import source_name
from isogloss.models.adapter_files import (
    CONFIG,
    WEIGHTS,
    AdapterFiles,
    check_base,
    check_chat_template,
    check_tokens,
    read_adapter,
)
from isogloss.models.adapters import adapter_digest, attach
from isogloss.models.architecture import check_architecture
from isogloss.models.locate import ModelLocation
from isogloss.models.lora import lora_config
from isogloss.models.skeleton import require_fit, skeleton
from isogloss.models.tokenizers import shared_tokenizer
from isogloss.predictions.table import frame
from isogloss.prompts.tokenisation import label_tokens
from isogloss.registry.logging import AdapterBase, TrainedAdapter, log_adapter
from isogloss.stages.finetune_plan import FinetunePlan
from isogloss.stages.session import AUTO, Session
from isogloss.stages.training_inputs import SourceData
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.server import UNREACHABLE, uploading
from isogloss.tracking.tags import RunKind, prefixed
from isogloss.tracking.versions import versions_text
from isogloss.training.contamination import training_record
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
from isogloss.training.loop import CONTENT, DEV_PREDICTIONS, content_digest
from isogloss.training.recipe import Recipe
from isogloss.types import Split

logger = logging.getLogger(__name__)

ADAPTER = "last"  # folder of the adapter in a work folder, as after a training in process
VERSIONS = "versions.json"  # what a command may leave in {output}: versions of its libraries
ARTIFACTS = "trainer"  # folder of the command's log and recipe in a run
DIGEST_LENGTH = 16


@dataclass(frozen=True)
class _Training:
    """A plan, the command that carries it out, and its items within the context window."""

    plan: FinetunePlan
    command: str
    data: SourceData
    tokenizer: Tokenizer
    label: str

    @property
    def digest(self) -> str:
        """A digest of the command and of the files that it reads."""
        return tracking.fingerprint(**command_facts(self.command))[:DIGEST_LENGTH]


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
    training = _Training(plan, command, *_fitted(plan, session), label)
    _free_memory(session)
    name = f"finetune {source_name(config.source)}"
    tags = plan.tags.as_dict() | {"trainer": "command", "trainer_digest": training.digest}
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
            _train(training, session, new_attempt(work.folder), folder, work.lease.require)
        try:
            dev = _measure(training, session, folder)
        except ModelError:  # another attempt may leave one that can be used
            shutil.rmtree(folder)
            raise
        work.lease.require()
        with uploading(work.folder):
            _log_adapter(training, session, folder, dev)
    return mlflow.get_run(run.info.run_id)


def _free_memory(session: Session) -> None:
    """Give the memory of the model in this process back, also that which torch keeps on a GPU."""
    session.unload()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _fitted(plan: FinetunePlan, session: Session) -> tuple[SourceData, Tokenizer]:
    """The data within the model's context window, and the tokenizer; no weights are read."""
    config, protocol = plan.config, plan.protocol
    tokenizer = shared_tokenizer(session.location)
    label_tokens(tokenizer, plan.data.train, protocol)
    window = _window(plan, session)
    train_items, dev_items = (
        fit(items, tokenizer, protocol, window, config.long_inputs).items
        for items in (plan.data.train, plan.data.dev)
    )
    return SourceData(plan.data.task, train_items, dev_items), tokenizer


def _window(plan: FinetunePlan, session: Session) -> int:
    if session.served:
        return session.served.window(plan.config.max_length)
    model_config = check_architecture(session.location)
    return window_of(model_config, shared_tokenizer(session.location), plan.config.max_length)


def _has_config(session: Session) -> bool:
    """Whether the architecture is known; of a served model perhaps only the tokenizer is here."""
    return (session.location.folder / "config.json").is_file()


def _train(
    training: _Training,
    session: Session,
    attempt: Attempt,
    target: Path,
    check: Callable[[], None],
) -> None:
    """Write the files, run the command and take over its adapter; `check` raises to end it."""
    values = _write_files(training, session, attempt)
    words = split_words(training.command)
    started = time.monotonic()
    code: int | None = None
    try:
        code = run_trainer(words, values, attempt, training.label, check)
    finally:  # also after an interrupt, which no error of the server may hide
        with suppress(*UNREACHABLE, MlflowException):
            status = "interrupted" if code is None else status_of(code)
            mlflow.set_tags(prefixed({"trainer_status": status}))
            mlflow.log_artifact(str(attempt.recipe), ARTIFACTS)
            mlflow.log_artifact(str(attempt.log), ARTIFACTS)
    if code != 0:
        raise TrainingError(failure_sentence(code, attempt.log))
    mlflow.log_metric("train/seconds", time.monotonic() - started)
    if versions := _versions(attempt.output):
        mlflow.set_tags(prefixed({"trainer_versions": versions}))
    _take(training, session, find_adapter(attempt.output), target)


def _write_files(training: _Training, session: Session, attempt: Attempt) -> dict[Placeholder, str]:
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
    _warn_of_other_prompts(training.command, exact)
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
        peft=_targets(recipe, location) if _has_config(session) else None,
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


def _take(training: _Training, session: Session, found: Path, target: Path) -> None:
    """Check an adapter, and copy it into `target` with the name of its base and a training record.

    Raises ModelError for one that would not be applied, that is untrained or not of this base.
    """
    plan, location = training.plan, session.location
    files = read_adapter(found)
    folder = location.folder
    served = session.served.base_names if session.served else ()
    check_base(files, location, {_model(session), str(folder), str(folder.resolve()), *served})
    check_tokens(files, training.tokenizer)
    if plan.config.chat == AUTO:
        check_chat_template(found, training.tokenizer)
    if _has_config(session):
        require_fit(files, location)
    else:
        logger.warning(f"whether the adapter fits {location.name} is not known without config.json")
    recipe = _trained_recipe(plan.recipe, files)
    with whole_folder(target) as part:
        shutil.copyfile(found / WEIGHTS, part / WEIGHTS)
        settings = {
            **files.settings,
            "base_model_name_or_path": location.name,
            "revision": location.revision,
        }
        write_json(part / CONFIG, settings)
        train_items = training.data.train
        languages = {item.language for item in train_items}
        described = recipe.describe(len(train_items) // len(languages))
        training_record(
            training.data.task.name,
            train_items,
            recipe.seed,
            f"{described}, by the command {training.digest}",
            f"{plan.protocol.in_training} command",
        ).write(part)


def _trained_recipe(asked: Recipe, files: AdapterFiles) -> Recipe:
    """The recipe with the rank and alpha that an adapter has; a warning if they are others."""
    rank, alpha = files.settings.get("r", asked.rank), files.settings.get("lora_alpha", asked.alpha)
    if (rank, alpha) != (asked.rank, asked.alpha):
        logger.warning(
            f"the adapter has rank {rank} and alpha {alpha}, not {asked.rank} and {asked.alpha} as "
            "in the recipe"
        )
    return replace(asked, rank=rank, alpha=alpha)


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


def _measure(training: _Training, session: Session, folder: Path) -> DevScore | None:
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
        mlflow.log_metrics(scores, step=step)
    table = frame(predictions)
    table[CONTENT] = list(map(content_digest, training.data.dev))
    write_whole(folder / DEV_PREDICTIONS, table.to_parquet(index=False))
    return score


def _log_adapter(training: _Training, session: Session, folder: Path, dev: DevScore | None) -> None:
    """Log the adapter to the open run as a model."""
    plan = training.plan
    dtype = AUTO if session.served else session.dtype
    base = AdapterBase(session.location, dtype, _window(plan, session))
    uri = log_adapter(
        TrainedAdapter(
            folder, plan.recipe.steps, dev, plan.config, plan.protocol, plan.tags,
            training.data.task.own_texts,
        ),
        base,
    )  # fmt: skip
    names = ("last_uri", "best_uri", "adapter_uri")
    mlflow.set_tags(
        prefixed(
            {
                **dict.fromkeys(names, uri),
                "best_step": str(plan.recipe.steps),
                "adapter": adapter_digest(folder),
            }
        )
    )
