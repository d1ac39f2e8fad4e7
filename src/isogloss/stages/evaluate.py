"""Evaluation: one condition of one model in many languages, as one MLflow run."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.entities import LoggedModelInput, Run

from isogloss import tracking
from isogloss.config import EvaluateConfig
from isogloss.errors import ConfigError
from isogloss.files import write_whole
from isogloss.inference.context_window import Fitted, context_window, fit_to_model
from isogloss.inference.predict import predict
from isogloss.languages import language, source_languages
from isogloss.logs import progress_bar
from isogloss.models.adapter_files import check_chat_template, read_adapter
from isogloss.models.adapters import attach
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.metrics import evaluation_metrics, token_metrics
from isogloss.predictions.table import frame
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import as_shown, require_wording
from isogloss.prompts.tokenisation import label_tokens
from isogloss.registry.lookup import AdapterRef, logged_model
from isogloss.stages.session import AUTO, Session
from isogloss.stages.training_inputs import check_labels, configured_task
from isogloss.tasks import Item, Task, items, languages_of, parallel_items
from isogloss.tracking import NO_ADAPTER, RunKind, RunTags
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.runs import active_run
from isogloss.tracking.server import uploading
from isogloss.tracking.versions import evaluation_versions
from isogloss.training.contamination import TrainingRecord, read_record, refuse_contamination
from isogloss.types import Condition, Format, LanguageCode, Normalisation, Split

logger = logging.getLogger(__name__)

LANGUAGE_DIGEST_LENGTH = 10
NAME_LENGTH = 40  # characters of an adapter in the name of a run, from its end


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated and how; known before a model is loaded.

    `items` are by language, as prompts show them. `adapter` is a digest, or None for the base
    model.
    """

    config: EvaluateConfig
    task: Task
    items: Mapping[LanguageCode, list[Item]]
    protocol: Protocol
    adapter: str | None
    fingerprint: str

    @property
    def condition(self) -> Condition:
        """With or without an adapter, with or without chain of thought."""
        return Condition.of(tuned=self.adapter is not None, reasoning=self.protocol.reasoning)

    @property
    def name(self) -> str:
        """The name of its run: the condition, and the adapter where the configuration has one."""
        adapter = " ".join(self.config.adapter or ())
        return f"{self.condition} {adapter[-NAME_LENGTH:]}" if adapter else str(self.condition)

    @property
    def all_items(self) -> list[Item]:
        """The items of all languages, one language after another."""
        return [item for rows in self.items.values() for item in rows]


def evaluate(
    config: EvaluateConfig,
    session: Session,
    adapter: AdapterRef | None = None,
    label: str | None = None,
) -> Run:
    """Evaluate one condition; return its run, or the finished run with the same fingerprint.

    The base model is evaluated if `adapter` is None. `label` begins each line of progress. Raises
    DataError if the adapter was trained on a passage that is to be evaluated, and ConfigError if it
    was trained on another source language.
    """
    evaluation = plan_evaluation(config, session, adapter.digest if adapter else None)
    label = label or evaluation.name
    with tracking.reuse_or_lock(RunKind.EVALUATE, evaluation.fingerprint, config) as (work, run):
        if run:
            logger.info(
                f"{label}: reusing run {run.info.run_id}, {len(evaluation.items)} languages"
            )
            return run
        with adapter.folder() if adapter else nullcontext() as folder:
            record = attach_checked(folder, evaluation, session) if folder else None
            model = session.model
            fitted = fit_to_model(evaluation.all_items, model, evaluation.protocol, config)
            tags = evaluation_tags(evaluation, session, record)
            if fitted.shortened:
                tags = replace(tags, max_length=context_window(model, config.max_length))
        with tracking.open_run(
            RunKind.EVALUATE, evaluation.name, config, tags.as_dict(), config.experiment, work
        ) as run:
            with model.using(evaluation.adapter):
                predictions = _predict(evaluation, fitted, model, work, label)
            with uploading(work.folder):
                _log(evaluation, predictions)
    return mlflow.get_run(run.info.run_id)


def plan_evaluation(
    config: EvaluateConfig, session: Session, adapter_digest: str | None
) -> Evaluation:
    """The evaluation that a configuration describes. Reads data and no weights."""
    task, items_by_language = evaluation_data(config)
    protocol = session.protocol(config, task, config.reasoning, config.max_new_tokens)
    fingerprint = tracking.fingerprint(
        kind="evaluate",
        model=session.location.revision,
        adapter=adapter_digest,
        data=tracking.data_digest([item for rows in items_by_language.values() for item in rows]),
        protocol=protocol.as_dict(),
        versions=evaluation_versions(task.name, protocol),
        long_inputs=(config.long_inputs, config.max_length),
        **session.numerics,
        seed=config.seed if config.shuffle_options else None,
        source=_source(config, adapter_digest),
    )
    return Evaluation(config, task, items_by_language, protocol, adapter_digest, fingerprint)


def evaluation_data(config: EvaluateConfig) -> tuple[Task, dict[LanguageCode, list[Item]]]:
    """The task, and the items of each target language as prompts show them."""
    task = configured_task(config)
    source_languages(config.source)
    targets = languages_of(task, config.languages)
    require_wording(targets, config.prompt_language)
    shuffle_seed = config.seed if config.shuffle_options else None
    shown = {
        code: as_shown(rows, config.prompt_language, shuffle_seed, own_texts=task.own_texts)
        for code, rows in parallel_items(task, targets, config.split, config.limit).items()
    }
    check_labels(config, task, shown, config.reasoning)
    return task, shown


def evaluation_tags(
    evaluation: Evaluation, session: Session, record: TrainingRecord | None
) -> RunTags:
    """The tags of the run. `record` is the training record of the adapter, if it has one.

    Loads the model, whose tokenizer decides the tokens of option labels.
    """
    config, task, protocol = evaluation.config, evaluation.task, evaluation.protocol
    cloze = protocol.format == Format.CLOZE
    return replace(
        session.run_tags(config, task, protocol, evaluation.condition),
        source=_source(config, evaluation.adapter),
        adapter=evaluation.adapter or NO_ADAPTER,
        fingerprint=evaluation.fingerprint,
        normalisation=protocol.normalisation if cloze else Normalisation.NONE,
        data_digest=tracking.data_digest(evaluation.all_items),
        language_digests={
            code: tracking.data_digest(rows)[:LANGUAGE_DIGEST_LENGTH]
            for code, rows in evaluation.items.items()
        },
        max_new_tokens=protocol.max_new_tokens if protocol.generates else None,
        seed=record.seed if record else None,
        recipe=record.recipe if record else None,
        training=record.training if record else None,
        training_items=record.items_digest if record else None,
        versions=evaluation_versions(task.name, protocol),
        choices=label_tokens(session.model.tokenizer, evaluation.all_items, protocol),
    )


def _source(config: EvaluateConfig, adapter: str | None) -> str | None:
    """The source language of an evaluation: that of its adapter.

    The base model has none, so that one evaluation of it serves every source.
    """
    return config.source if adapter else None


def attach_checked(folder: Path, evaluation: Evaluation, session: Session) -> TrainingRecord | None:
    """Attach the adapter of an evaluation to the model; return its training record.

    Raises DataError and ConfigError for its training data (see `evaluate`), and ModelError if it
    cannot be applied (see `attach`), or has a chat template that differs from the model's.
    """
    record = read_record(folder)
    _check_training_data(record, evaluation)
    read_adapter(folder)  # what its files say, before a model is loaded
    model = session.model
    if evaluation.config.chat == AUTO:
        check_chat_template(folder, model.tokenizer)
    attach(model, folder, evaluation.config.allow_base or ())
    return record


def _check_training_data(record: TrainingRecord | None, evaluation: Evaluation) -> None:
    """Raise DataError if the adapter was trained on a passage to be evaluated.

    Raises ConfigError if it was trained on another language than `source`, which defines the
    groups.
    """
    config, task = evaluation.config, evaluation.task
    if record is None:
        logger.warning("the adapter has no training record; contamination is not checked")
        return
    if record.language != config.source:
        raise ConfigError(
            f"the adapter was trained on {record.language}, but `source` is {config.source}; set "
            f"source={record.language}, since language groups are relative to it."
        )
    same_language = in_source(record.language, task, evaluation.items, config.split)
    if not same_language and record.task != task.name:
        logger.warning(
            f"{task.name} has no {record.language} items, the language in which the adapter was "
            f"trained on {record.task}; whether the two tasks share passages is not checked"
        )
    refuse_contamination(
        record,
        task.name,
        evaluation.all_items,
        same_language,
        share_passages=config.share_passages,
    )


def in_source(
    source: str, task: Task, evaluated: Mapping[LanguageCode, Sequence[Item]], split: Split
) -> list[Item]:
    """The evaluated items in the languages of a source; read if none of them is a target."""
    rows: list[Item] = []
    for row in source_languages(source):
        rows += evaluated.get(row.code) or (
            items(task, row.code, split, None) if row.code in task.languages else []
        )
    return rows


def _predict(
    evaluation: Evaluation, fitted: Fitted, model: LanguageModel, work: WorkDir, label: str
) -> pd.DataFrame:
    """The predictions in all languages; those that an interrupted run left are read from disk."""
    tables = []
    count = len(evaluation.items)
    by_language = groupby(fitted.items, lambda item: item.language)
    for number, (code, rows) in enumerate(by_language, 1):
        line = f"{label} · {language(code).name} ({number} of {count})"
        path = work.folder / f"{code}.parquet"
        if path.is_file():
            logger.info(f"{line}: predictions are on disk")
        else:
            table = _predict_language(evaluation, list(rows), fitted, model, line)
            write_whole(path, table.to_parquet(index=False))
        # Read even if just written: a resumed run has the same table to the bit.
        tables.append(pd.read_parquet(path))
    return pd.concat(tables, ignore_index=True)


def _predict_language(
    evaluation: Evaluation, items_: list[Item], fitted: Fitted, model: LanguageModel, line: str
) -> pd.DataFrame:
    with progress_bar(line, "item", total=len(items_)) as progress:
        predictions = predict(
            model,
            items_,
            evaluation.protocol,
            evaluation.task.name,
            shortened=fitted.shortened,
            progress=progress.update,
        )
    correct = sum(prediction.correct for prediction in predictions)
    accuracy = correct / len(predictions)
    logger.info(f"{line}: accuracy {accuracy:.3f} on {len(predictions)} items")
    return frame(predictions)


def _log(evaluation: Evaluation, predictions: pd.DataFrame) -> None:
    """Log metrics, items and predictions to the open run; metrics to the adapter's model too."""
    source = _source(evaluation.config, evaluation.adapter)
    values = evaluation_metrics(predictions, source)
    if evaluation.condition == Condition.BASE:  # the same in every condition of a model
        values |= token_metrics(predictions)
    data_set = tracking.log_items(
        evaluation.all_items, evaluation.task.name, evaluation.config.split
    )
    model_id = logged_model(evaluation.adapter) if evaluation.adapter else None
    mlflow.log_metrics(values, dataset=data_set, model_id=model_id)
    if model_id is not None:
        run_id = active_run().info.run_id
        mlflow.MlflowClient().log_inputs(run_id, models=[LoggedModelInput(model_id)])
    tracking.log_predictions(predictions)
