"""Evaluation: one condition of one model in many languages, as one MLflow run."""

import json
import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.entities import LoggedModelInput, Run

from isogloss import tracking
from isogloss.config import EvaluateConfig
from isogloss.errors import ServerError
from isogloss.files import write_whole
from isogloss.inference.context_window import Fitted, context_window, fit_to_model
from isogloss.inference.predict import predict
from isogloss.inference.served import UnansweredError
from isogloss.languages import language
from isogloss.logs import progress_bar
from isogloss.models.adapter_files import check_chat_template, read_adapter
from isogloss.models.adapters import attach
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.metrics import (
    evaluation_metrics,
    language_table,
    logged_metrics,
    token_metrics,
)
from isogloss.predictions.positions import one_position, other_ways_to_ask
from isogloss.predictions.table import BOUNDED, frame
from isogloss.registry.lookup import AdapterRef, logged_model
from isogloss.stages.evaluation_plan import (
    Evaluation,
    check_training_data,
    evaluation_source,
    evaluation_tags,
    plan_evaluation,
)
from isogloss.stages.kept_predictions import kept_predictions
from isogloss.stages.progress import rest_of_study
from isogloss.stages.run_names import finished_words
from isogloss.stages.served_evaluation import (
    OnServer,
    problem_on_server,
    ready_on_server,
    server_metrics,
)
from isogloss.stages.served_weights import keep_answers_of
from isogloss.stages.session import AUTO, Session
from isogloss.tasks import Item
from isogloss.tracking import RunKind
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.runs import active_run
from isogloss.tracking.server import uploading
from isogloss.training.contamination import TrainingRecord, read_record
from isogloss.types import Condition

logger = logging.getLogger(__name__)


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
    label = label or str(evaluation.condition)
    with tracking.reuse_or_lock(
        RunKind.EVALUATE,
        evaluation.fingerprint,
        config.experiment,
        config.study,
        partial(problem_on_server, evaluation, session, adapter),
    ) as (work, run):
        if run:
            count = len(evaluation.items)
            logger.info(f"{label}: reusing run {finished_words(run)}, {count} languages")
            return run
        with adapter.folder() if adapter else nullcontext() as folder:
            ready = _ready(evaluation, session, folder)
            tags = evaluation_tags(evaluation, session, ready.record)
            if ready.fitted.shortened:
                tags = replace(tags, max_length=ready.window)
            if isinstance(ready, OnServer) and ready.answer:
                tags = replace(tags, server_answer=json.dumps(ready.answer))
                keep_answers_of(work.folder, ready.answer)
        name = evaluation.name(tags.seed)
        with tracking.open_run(
            RunKind.EVALUATE, name, config, tags.as_dict(), config.experiment, work
        ) as run:
            predictions = _predict(evaluation, ready, work, label)
            _warn_of_one_position(evaluation, predictions, label)
            work.lease.require()
            with uploading(work.folder):
                tracking.require_first(RunKind.EVALUATE, evaluation.fingerprint, run, work)
                _log(evaluation, predictions)
                if session.served:
                    tracking.log_metrics_once(server_metrics(session.served.engine, work.folder))
    return mlflow.get_run(run.info.run_id)


@dataclass(frozen=True)
class _InMemory:
    """A model in memory that is ready to answer about the items of an evaluation."""

    model: LanguageModel
    fitted: Fitted
    window: int
    record: TrainingRecord | None


def _ready(evaluation: Evaluation, session: Session, folder: Path | None) -> _InMemory | OnServer:
    """The model or server that answers, with the adapter in a folder if there is one."""
    if session.served:
        return ready_on_server(evaluation, session, session.served, folder)
    record = attach_checked(folder, evaluation, session) if folder else None
    model, config = session.model, evaluation.config
    fitted = fit_to_model(evaluation.all_items, model, evaluation.protocol, config)
    return _InMemory(model, fitted, context_window(model, config.max_length), record)


def check_adapter(folder: Path, evaluation: Evaluation, session: Session) -> None:
    """Raise the errors of an adapter that show before a run is open; see `attach_checked`."""
    if session.served:
        ready_on_server(evaluation, session, session.served, folder)
    else:
        attach_checked(folder, evaluation, session)


def attach_checked(folder: Path, evaluation: Evaluation, session: Session) -> TrainingRecord | None:
    """Attach the adapter of an evaluation to the model; return its training record.

    Raises DataError and ConfigError for its training data (see `evaluate`), and ModelError if it
    cannot be applied (see `attach`), or has a chat template that differs from the model's.
    """
    record = read_record(folder)
    check_training_data(record, evaluation)
    read_adapter(folder)  # what its files say, before a model is loaded
    model = session.model
    if evaluation.config.chat == AUTO:
        check_chat_template(folder, model.tokenizer)
    attach(model, folder, evaluation.config.allow_base or ())
    return record


def _predict(
    evaluation: Evaluation, ready: _InMemory | OnServer, work: WorkDir, label: str
) -> pd.DataFrame:
    """The predictions in all languages; those that an interrupted run left are read from disk.

    Raises ServerError for items that a server gave no answer about, after all others.
    """
    tables, unanswered, missing = [], list[UnansweredError](), 0
    count = len(evaluation.items)
    rest_of_study(0.0, found=True)  # loading a model tells nothing of the speed
    n_items = len(ready.fitted.items)
    logger.info(f"{label}: {n_items} items in {count} language{'s' if count > 1 else ''}")
    by_language = groupby(ready.fitted.items, lambda item: item.language)
    for number, (code, group) in enumerate(by_language, 1):
        rows = list(group)
        line = f"{label} · {language(code).name} ({number} of {count})"
        path = work.folder / f"{code}.parquet"
        share = number / count
        kept = kept_predictions(path, rows)
        if kept is not None:
            logger.info(f"{line}: predictions are on disk{rest_of_study(share, found=True)}")
            tables.append(kept)
            continue
        if unanswered and unanswered[-1].gone:
            missing += len(rows)
            continue
        try:
            table = _predict_language(evaluation, rows, ready, work, line, share)
        except UnansweredError as error:
            unanswered.append(error)
            missing += error.count
            continue
        work.lease.require()
        write_whole(path, table.to_parquet(index=False))
        # Read even if just written: a resumed run has the same table to the bit.
        tables.append(pd.read_parquet(path))
    if unanswered:
        raise ServerError(
            f"no answer about {missing} of {len(ready.fitted.items)} items "
            f"({unanswered[-1].reason}); the same command asks about these and keeps the other "
            "answers."
        )
    table = pd.concat(tables, ignore_index=True)
    if BOUNDED in table:  # which a language has only if one of its items is
        table[BOUNDED] = table[BOUNDED].eq(True)
    return table


def _warn_of_one_position(evaluation: Evaluation, predictions: pd.DataFrame, label: str) -> None:
    found = one_position(predictions["prediction"], predictions["answer"])
    if found is None:
        return
    ways = other_ways_to_ask(evaluation.protocol.format, shuffled=evaluation.config.shuffle_options)
    logger.warning(f"{label}: the model answers {found}, whatever the question; try {ways}")


def _predict_language(
    evaluation: Evaluation,
    items_: list[Item],
    ready: _InMemory | OnServer,
    work: WorkDir,
    line: str,
    share: float,
) -> pd.DataFrame:
    with progress_bar(line, "item", total=len(items_), part=items_[0].language) as progress:
        if isinstance(ready, OnServer):
            journal = work.folder / f"{items_[0].language}.jsonl"
            predictions = ready.predict(evaluation, items_, journal, progress.update)
        else:
            with ready.model.using(evaluation.adapter):
                predictions = predict(
                    ready.model,
                    items_,
                    evaluation.protocol,
                    evaluation.task.name,
                    shortened=ready.fitted.shortened,
                    progress=progress.update,
                )
    correct = sum(prediction.correct for prediction in predictions)
    accuracy = correct / len(predictions)
    rest = rest_of_study(share)
    logger.info(f"{line}: accuracy {accuracy:.3f} on {len(predictions)} items{rest}")
    if bounded := sum(prediction.bounded for prediction in predictions):
        logger.warning(
            f"{line}: labels of {bounded} items are not among the most likely tokens that the "
            "server returns; their log-probabilities are bounds"
        )
    return frame(predictions)


def _log(evaluation: Evaluation, predictions: pd.DataFrame) -> None:
    """Log metrics, items and predictions to the open run; metrics to the adapter's model too."""
    source = evaluation_source(evaluation.config, evaluation.adapter)
    values = evaluation_metrics(predictions, source)
    if evaluation.condition == Condition.BASE:  # the same in every condition of a model
        values |= token_metrics(predictions)
    data_set = tracking.log_items(
        evaluation.all_items, evaluation.task.name, evaluation.config.split
    )
    model_id = logged_model(evaluation.adapter) if evaluation.adapter else None
    logged = logged_metrics(values, evaluation.config.metrics)
    tracking.log_metrics_once(logged, data_set, model_id)
    if model_id is not None:
        run = mlflow.get_run(active_run().info.run_id)
        known = run.inputs.model_inputs if run.inputs else ()
        if model_id not in {each.model_id for each in known}:  # by a process that was killed
            client = mlflow.MlflowClient()
            client.log_inputs(run.info.run_id, models=[LoggedModelInput(model_id)])
    tracking.log_predictions(predictions, language_table(values))
