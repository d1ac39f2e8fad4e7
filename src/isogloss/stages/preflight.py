"""Preflight: what would stop a study later is found before its first cell is run.

Reads data, configurations and tokenizers, and no weights. A fault of the study refuses it. A model
that cannot be used loses its cells, and the others are run.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from isogloss.analysis.covariate_file import read_covariates
from isogloss.compat.interfaces import Tokenizer
from isogloss.config import FinetuneConfig, StudyConfig
from isogloss.errors import ConfigError, IsoglossError, ModelError
from isogloss.inference.context_window import check_fit, fit
from isogloss.models.architecture import check_architecture
from isogloss.models.loading import check_options, check_weight_files
from isogloss.models.tokenizers import shared_tokenizer
from isogloss.prompts.tokenisation import label_tokens
from isogloss.stages.evaluation_plan import in_source
from isogloss.stages.session import Session
from isogloss.stages.study_cells import (
    EvaluateCell,
    FinetuneCell,
    StudyCell,
    study_reasonings,
)
from isogloss.stages.study_contrast import check_contrast
from isogloss.stages.task_data import check_labels, evaluation_data
from isogloss.stages.training_inputs import SourceData, recipe_of, source_data
from isogloss.tasks import Item, Task
from isogloss.training.contamination import refuse_contamination, training_record
from isogloss.types import LanguageCode

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preflight:
    """The task of a study, and the cells that cannot be run, with the reasons."""

    task: Task
    unusable: Mapping[StudyCell, str]


@dataclass(frozen=True)
class _Data:
    """What a study evaluates, by language, and trains on, by source."""

    task: Task
    evaluated: Mapping[LanguageCode, Sequence[Item]]
    trained: Mapping[str, SourceData]


def check_study(
    config: StudyConfig, sessions: Mapping[str, Session], cells: Sequence[StudyCell]
) -> Preflight:
    """Check a study before its first run.

    Raises ConfigError or DataError for faults of the study: a file of covariates that cannot be
    used, languages without data or wording, a contrast of fewer than two languages in a group,
    training data among the items to be evaluated, models that do not exist, or that have the same
    files. Raises ConfigError also if no model can
    run all its cells.
    """
    if config.compare.covariates:
        read_covariates(Path(config.compare.covariates))
    data = _study_data(config, cells)
    check_contrast(config, tuple(data.evaluated))
    _check_models(sessions)
    unusable = _unusable_cells(sessions, cells, data)
    faulty = {cell.config.model for cell in unusable}
    if faulty == set(sessions):
        raise ConfigError("\n".join(dict.fromkeys(unusable.values())))
    return Preflight(data.task, unusable)


def _study_data(config: StudyConfig, cells: Sequence[StudyCell]) -> _Data:
    """Read all data of a study. Raises errors of the data, and DataError for contamination."""
    evaluation = next(cell.config for cell in cells if isinstance(cell, EvaluateCell))
    task, evaluated = evaluation_data(evaluation)
    for reasoning in study_reasonings(config):
        check_labels(config, task, evaluated, reasoning)
    all_items = [item for rows in evaluated.values() for item in rows]
    trained = {}
    for cell in cells:
        source = cell.config.source
        if not isinstance(cell, FinetuneCell) or source in trained:
            continue
        trained[source] = source_data(cell.config)
        refuse_contamination(
            training_record(task.name, trained[source].train),
            task.name,
            all_items,
            in_source(source, task, evaluated, evaluation.split),
            share_passages=config.share_passages,
        )
    return _Data(task, evaluated, trained)


def _check_models(sessions: Mapping[str, Session]) -> None:
    """Raise ConfigError for models that do not exist, and for two with the same files."""
    problems = []
    by_revision: dict[str, str] = {}
    for model, session in sessions.items():
        try:
            other = by_revision.setdefault(session.files.revision, model)
            if other != model:
                problems.append(f"models {other!r} and {model!r} have the same files.")
        except ModelError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def _unusable_cells(
    sessions: Mapping[str, Session], cells: Sequence[StudyCell], data: _Data
) -> dict[StudyCell, str]:
    """The cells that their models cannot run, with the reasons.

    Raises ConfigError for parameters that do not suit a model.
    """
    unusable: dict[StudyCell, str] = {}
    refused: dict[str, None] = {}
    for model, members in groupby(cells, lambda cell: cell.config.model):
        session = sessions[model]
        try:
            tokenizer = _usable_tokenizer(session)
        except ModelError as error:
            unusable |= dict.fromkeys(members, str(error))
            continue
        problems: dict[str, IsoglossError | None] = {}
        for cell in members:
            # Adapters of one source and other seeds have the same prompts.
            config = cell.config
            prompts = config.source if isinstance(config, FinetuneConfig) else config.reasoning
            if prompts not in problems:
                problems[prompts] = _problem(cell, session, tokenizer, data)
            problem = problems[prompts]
            if isinstance(problem, ConfigError):
                refused[str(problem)] = None
            elif problem:
                unusable[cell] = str(problem)
    if refused:
        raise ConfigError("\n".join(refused))
    return unusable


def _usable_tokenizer(session: Session) -> Tokenizer:
    """The tokenizer of a model; ModelError if the model cannot be loaded, as far as is known.

    That of a served model whose server answers.
    """
    if session.served:
        return session.tokenizer
    check_architecture(session.files)
    check_weight_files(session.files)
    check_options(session.requested_dtype, session.attention, session.device_map)
    return shared_tokenizer(session.files)


def _problem(
    cell: StudyCell, session: Session, tokenizer: Tokenizer, data: _Data
) -> IsoglossError | None:
    """Why a model cannot present the items of a cell, None if nothing is known against it."""
    config = cell.config
    try:
        if isinstance(config, FinetuneConfig):
            session.require_trainer()
            recipe_of(config)
            of_source = data.trained[config.source]
            items = [*of_source.train, *of_source.dev]
            protocol = session.protocol(config, data.task)
        else:
            items = [item for rows in data.evaluated.values() for item in rows]
            protocol = session.protocol(config, data.task, config.reasoning, config.max_new_tokens)
        label_tokens(tokenizer, items, protocol)
        if session.served:
            window = session.served.window(config.max_length)
            fit(items, tokenizer, protocol, window, config.long_inputs)
        else:
            check_fit(items, check_architecture(session.files), tokenizer, protocol, config)
    except IsoglossError as error:
        return error
    return None
