"""Evaluation: one condition of a model in many languages, as one MLflow run."""

import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.entities import LoggedModelInput, Run

from isogloss import tracking
from isogloss.config import EvaluateConfig
from isogloss.errors import ConfigError
from isogloss.files import write_whole
from isogloss.inference.context_window import Fitted, fit_to_model
from isogloss.inference.predict import predict
from isogloss.languages import language
from isogloss.logs import progress_bar
from isogloss.models.adapters import adapter_digest, attach
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.metrics import evaluation_metrics, token_metrics
from isogloss.predictions.table import frame
from isogloss.prompts.answer_parser import PARSER_VERSION
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import PROMPT_VERSION, as_shown, require_wording
from isogloss.prompts.tokenisation import letter_tokens
from isogloss.registry.adapters import adapter_folder, logged_model
from isogloss.stages.session import Session
from isogloss.tasks import Item, Task, items, languages_of, open_task, parallel_items
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.server import uploading
from isogloss.tracking.tags import NO_ADAPTER
from isogloss.training.contamination import TrainingRecord, read_record, refuse_contamination
from isogloss.types import Condition, Format, Normalisation

logger = logging.getLogger(__name__)


@dataclass
class Cells:
    """Counts the cells of a study (a condition in a language, a training) for progress lines."""

    total: int
    done: int = 0

    def next(self, description: str) -> str:
        """The label of the next cell, as `cell 3 of 41 · base · Hebrew`."""
        self.done += 1
        return f"cell {self.done} of {self.total} · {description}"


def evaluate(
    config: EvaluateConfig,
    session: Session,
    cells: Cells | None = None,
    adapter: tuple[str, Callable[[], Path]] | None = None,
) -> Run:
    """Evaluate one condition and return its run, or the finished run that has the same result.

    `adapter` is the digest of an adapter and a function that gives its folder, called only if
    there is something to compute; None for the base model. Where the configuration names it, the
    run and its progress lines do too. Raises DataError if a passage that the adapter was trained on
    is among those to be evaluated.
    """
    task, data = evaluation_data(config)
    protocol = session.protocol(config, task, config.reasoning, config.max_new_tokens)
    everything = [item for rows in data.values() for item in rows]
    data_digest = tracking.data_digest(everything)
    digest, folder = adapter or (None, None)
    condition = Condition.of(tuned=digest is not None, reasoning=config.reasoning)
    called = f"{condition} {config.adapter[-40:]}" if config.adapter else condition
    cells = cells or Cells(len(data))
    fingerprint = tracking.fingerprint(
        kind="evaluate",
        model=session.location.revision,
        adapter=digest,
        data=data_digest,
        prompt=PROMPT_VERSION,
        protocol=protocol.as_dict(),
        reading=PARSER_VERSION,
        long_inputs=(config.long_inputs, config.max_length),
        **session.numerics,
        seed=config.seed if config.shuffle_options else None,
        source=config.source,  # decides the groups whose means are logged
    )
    with tracking.reuse_or_lock("evaluate", fingerprint, config) as (work, found):
        if found:
            cells.done += len(data)
            logger.info(f"{called}: reusing run {found.info.run_id}, {len(data)} languages")
            return found
        path = folder() if folder else None
        trained = None
        if path is not None:
            trained = read_record(path)
            refuse_contaminated(trained, task, data, config)
        model = session.model
        tags = replace(
            session.run_tags(config, task, protocol, condition),
            adapter=digest or NO_ADAPTER,
            fingerprint=fingerprint,
            normalisation=(
                protocol.normalisation if protocol.format == Format.CLOZE else Normalisation.NONE
            ),
            data_digest=data_digest,
            language_digests={code: tracking.data_digest(rows)[:10] for code, rows in data.items()},
            max_new_tokens=protocol.max_new_tokens if protocol.generates else None,
            seed=trained.seed if trained else None,
            recipe=trained.recipe if trained else None,
            choices=letter_tokens(model.tokenizer, everything, protocol),
        ).as_dict()
        fitted = fit_to_model(everything, model, protocol, config)
        if path is not None:
            digest = attach(model, path)
        with tracking.open_run("evaluate", called, config, tags, config.experiment, work) as run:
            with model.using(digest):
                table = _ask(model, fitted, protocol, task.name, work, called, cells)
            _log(table, config, condition, task.name, everything, digest, work)
    return mlflow.get_run(run.info.run_id)


def _ask(
    model: LanguageModel,
    fitted: Fitted,
    protocol: Protocol,
    task: str,
    work: WorkDir,
    called: str,
    cells: Cells,
) -> pd.DataFrame:
    """The predictions, a language after the other."""
    tables = []
    for code, rows in groupby(fitted.items, lambda item: item.language):
        label = cells.next(f"{called} · {language(code).name}")
        tables.append(_answers(model, list(rows), protocol, task, fitted.shortened, work, label))
    return pd.concat(tables, ignore_index=True)


def _log(
    table: pd.DataFrame,
    config: EvaluateConfig,
    condition: str,
    task: str,
    items_: list[Item],
    digest: str | None,
    work: WorkDir,
) -> None:
    """Log metrics, items and predictions to the open run; metrics to the adapter's model too."""
    values = evaluation_metrics(table, config.source)
    if condition == Condition.BASE:  # once for a model and task: no other condition changes it
        values |= token_metrics(table)
    with uploading(work.folder):
        data_set = tracking.log_items(items_, task, config.split)
        model_id = logged_model(digest)
        mlflow.log_metrics(values, dataset=data_set, model_id=model_id)
        if model_id is not None:
            run_id = mlflow.active_run().info.run_id
            mlflow.MlflowClient().log_inputs(run_id, models=[LoggedModelInput(model_id)])
        tracking.log_predictions(table)


def _answers(
    model: LanguageModel,
    asked: list[Item],
    protocol: Protocol,
    task: str,
    shortened: frozenset[tuple[str, str]],
    work: WorkDir,
    label: str,
) -> pd.DataFrame:
    """The predictions of one language: those an earlier process has left, or new ones."""
    path = work.folder / f"{asked[0].language}.parquet"
    if path.is_file():
        logger.info(f"{label}: {len(asked)} answers are here from before")
        return pd.read_parquet(path)
    with progress_bar(None, label, "item", total=len(asked)) as progress:
        answers = predict(
            model, asked, protocol, task, shortened=shortened, progress=progress.update
        )
    right = sum(answer.correct for answer in answers)
    logger.info(f"{label}: accuracy {right / len(answers):.3f} on {len(answers)} items")
    table = frame(answers)
    write_whole(path, table.to_parquet(index=False))
    # As they will be read again, so that a run that was interrupted has the same table.
    return pd.read_parquet(path)


def evaluation_data(config: EvaluateConfig) -> tuple[Task, dict[str, list[Item]]]:
    """The task and the items of each target language, as they are shown."""
    task = open_task(config.task, config.data_dir)
    language(config.source)
    targets = languages_of(task, config.languages)
    require_wording(targets, config.prompt_language)
    data = parallel_items(task, targets, config.split, config.limit)
    shuffle_seed = config.seed if config.shuffle_options else None
    return task, {
        code: as_shown(rows, config.prompt_language, shuffle_seed) for code, rows in data.items()
    }


def refuse_contaminated(
    trained: TrainingRecord | None,
    task: Task,
    data: dict[str, list[Item]],
    config: EvaluateConfig,
) -> None:
    """Raise DataError if an adapter was trained on a passage to be evaluated.

    ConfigError if it was trained on another language than the one that groups are relative to.
    """
    if trained is None:
        logger.info("the adapter does not say what it was trained on; contamination is not checked")
        return
    if trained.language != config.source:
        raise ConfigError(
            f"the adapter was trained on {trained.language}, but `source` is {config.source}; "
            f"say source={trained.language}, since groups of languages are relative to it."
        )
    same_language = data.get(trained.language, [])
    if not same_language and trained.language in task.languages:
        same_language = items(task, trained.language, config.split, None)
    if not same_language and trained.task != task.name:
        logger.info(
            f"{task.name} has no {trained.language}, in which the adapter was trained on "
            f"{trained.task}; whether the two share passages is not checked"
        )
    everything = [item for rows in data.values() for item in rows]
    refuse_contamination(trained, task.name, everything, same_language)


def run_evaluate(config: EvaluateConfig) -> None:
    """The entry point `evaluate`: a run for each adapter, below a run of their own if several."""
    names = [name.strip() for name in (config.adapter or "none").split(",")]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"adapter has {twice[0]!r} more than once.")
    session = Session.of(config)
    with ExitStack() as stack:
        folders = [
            None if name == "none" else stack.enter_context(adapter_folder(name)) for name in names
        ]
        if len(names) > 1:
            tags = {"model": config.model, "source": config.source, "study": config.study}
            called = f"{len(names)} evaluations"
            stack.enter_context(
                tracking.open_run("evaluations", called, config, tags, config.experiment)
            )
        targets = languages_of(open_task(config.task, config.data_dir), config.languages)
        cells = Cells(len(names) * len(targets))
        runs = []
        for name, folder in zip(names, folders, strict=True):
            one = config.model_copy(update={"adapter": None if folder is None else name})
            adapter = None if folder is None else (adapter_digest(folder), partial(Path, folder))
            runs.append(evaluate(one, session, cells, adapter))
        if len(names) > 1:
            mlflow.set_tag("isogloss.cells", " ".join(run.info.run_id for run in runs))
    for name, run in zip(names, runs, strict=True):
        if len(names) > 1:
            print(f"\nadapter {name}")
        _print_accuracies(run)


def _print_accuracies(run: Run) -> None:
    """Print accuracy and standard error a language, and the run's id last."""
    values = run.data.metrics
    names = sorted(name for name in values if name.startswith("accuracy/"))
    for name in sorted(names, key="accuracy/mean".__eq__):
        error = values.get(name.replace("accuracy/", "accuracy_se/"), math.nan)
        spread = "" if math.isnan(error) else f" ± {error:.3f} (standard error)"
        print(f"{name.removeprefix('accuracy/'):<10} {values[name]:.3f}{spread}")
    print(f"run {run.info.run_id}")
