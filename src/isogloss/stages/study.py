"""A study: for each model base on all targets, fine-tuning, tuned on all targets; then comparison.

Optionally with chain of thought, several seeds and several sources. One process loads each model
once and runs every cell as a child of one parent run. Cells that have finished are reused. A cell
that fails is named at the end and in the report, and does not stop the others.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import mlflow
import pandas as pd
from mlflow.entities import Run

from isogloss import tracking
from isogloss.analysis.frames import csv_text
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.config import CompareConfig, MainConfig, StudyConfig
from isogloss.errors import (
    IsoglossError,
    ModelError,
    ProcessError,
    StudyError,
    TrackingError,
)
from isogloss.formatting import aligned, decimal, duration
from isogloss.logs import bars_of
from isogloss.models.memory import return_freed_memory
from isogloss.stages.cell import do_cell
from isogloss.stages.collect_runs import group_runs
from isogloss.stages.configured_study import command_without_quick, configured_study
from isogloss.stages.dry_run_report import run_dry
from isogloss.stages.preflight import check_study
from isogloss.stages.remaining import Remaining, reporting, study_weights
from isogloss.stages.run_names import run_name
from isogloss.stages.session import Session
from isogloss.stages.stated_plan import plan_tags
from isogloss.stages.study_cells import (
    EvaluateCell,
    FinetuneCell,
    StudyCell,
    study_cells,
    study_models,
    study_seeds,
    study_sources,
)
from isogloss.stages.study_results import save_list_of_studies, save_study_view, study_metrics
from isogloss.tasks import Task
from isogloss.tracking import RunKind, tag
from isogloss.tracking.saved_view import view_url
from isogloss.tracking.server import shown_uri
from isogloss.tracking.tags import PREFIX, in_parts

logger = logging.getLogger(__name__)

# Tags that the study's run takes over from its comparison, whether that was reused or not.
RESULT_TAGS = (
    f"{PREFIX}adapter",
    f"{PREFIX}fingerprint",
    f"{PREFIX}verdict",
    "mlflow.note.content",
)


@dataclass
class StudyRuns:
    """The runs of a study so far, and the reasons of the cells that failed."""

    finetuned: dict[FinetuneCell, Run] = field(default_factory=dict)
    evaluated: dict[EvaluateCell, Run] = field(default_factory=dict)
    failed: dict[StudyCell, str] = field(default_factory=dict)


RunCells = Callable[
    [Sequence[StudyCell], Mapping[str, Session], Mapping[StudyCell, str]], StudyRuns
]
Launch = Callable[[StudyConfig], AbstractContextManager[RunCells]]


def in_this_process(config: StudyConfig) -> AbstractContextManager[RunCells]:
    """The function that runs the cells of a study one after another; see `Launch`."""
    return nullcontext(partial(run_cells, config))


def run_study(
    config: StudyConfig,
    experiment: str | None = None,
    launch: Launch = in_this_process,
    full_command: str = "",
) -> str:
    """Run a study and return the id of its compare run.

    `full_command` is the one without quick, if known. `launch` gives the function that runs the
    cells, and what it needs is there within its context. Finished cells are reused. Unusable
    parameters and data raise before the first run is opened. Raises StudyError at the end if cells
    failed; the comparison is then that of the others.
    """
    from isogloss.stages.compare import print_verdict  # draws, which takes long to import

    logger.info("checking data and models")
    cells = study_cells(config)
    sessions = {cell.config.model: Session.of(cell.config) for cell in cells}
    preflight = check_study(config, sessions, cells)
    _log_unusable(preflight.unusable)
    task = preflight.task
    models, sources = study_models(config), study_sources(config)
    tags = _tags(config, task)
    with (
        launch(config) as run_all,
        tracking.locked_parent(RunKind.STUDY, config, experiment) as parent,
    ):
        if parent.finished and (meanwhile := _comparison_of(parent.finished)):
            logger.info(f"another process has run study {config.study!r} meanwhile")
            print_verdict(meanwhile)
            return str(meanwhile.info.run_id)
        tags |= parent.tags
        names = [model.label or model.name for model in models]
        name = run_name(config.study, names, [source.source for source in sources], task.name)
        with tracking.open_run(RunKind.STUDY, name, config, tags, experiment, parent.work) as run:
            runs = run_all(cells, sessions, preflight.unusable)
            table = models_table(cells, runs)
            revisions = [sessions[model.name].files.revision for model in models]
            labels = dict(zip(revisions, names, strict=True))
            compared = _compare(config, runs, labels, full_command)
            _log_results(runs, table, compared)
            evaluated = list(runs.evaluated.values())
            view = save_study_view(config.study, sources[0].source, run, evaluated)
            studies = save_list_of_studies(run.info.experiment_id)
    if compared:
        print_verdict(compared)
    if len(models) > 1:
        print(f"\nmean accuracy over target languages\n{aligned(table)}")
    if view:
        print(f"\nin MLflow, while `make ui` runs:\ncharts of each language: {view_url(view)}")
    if studies:
        print(f"all studies: {view_url(studies)}")
    if runs.failed or compared is None:
        raise StudyError(_failures(runs, len(cells)))
    return str(compared.info.run_id)


def _tags(config: StudyConfig, task: Task) -> dict[str, str]:
    """The tags of a study's run, without their prefix."""
    models, sources = study_models(config), study_sources(config)
    seeds = [study_seeds(config, source) for source in sources]
    tags = {
        "model": ", ".join(model.name for model in models),
        "source": sources[0].source,
        "sources": ",".join(source.source for source in sources),
        "reasoning": config.reasoning,
        "study": config.study,
        "task": task.name,
        **({"quick": "true"} if config.quick else {}),
        "format": config.format or task.format,
        "seeds": " ".join(",".join(map(str, own)) for own in dict.fromkeys(seeds)),
        **plan_tags(config, [source.source for source in sources]),
    }
    labels = {model.name: model.label for model in models if model.label}
    if labels:
        tags["labels"] = json.dumps(labels)
    return tags


def _log_results(runs: StudyRuns, table: list[tuple[str, ...]], compared: Run | None) -> None:
    """Log what a study found to its run, which is open."""
    mlflow.set_tags(in_parts("cells", [run.info.run_id for run in runs.evaluated.values()]))
    mlflow.log_text(csv_text(pd.DataFrame(table[1:], columns=table[0])), "models.csv")
    tracking.log_metrics_once(study_metrics(list(runs.evaluated.values()), compared))
    if compared:
        mlflow.set_tags({name: compared.data.tags[name] for name in RESULT_TAGS})
    if runs.failed:
        mlflow.set_tag(f"{PREFIX}failed", str(len(runs.failed)))


def _comparison_of(study: Run) -> Run | None:
    """The comparison of a study of which all cells have finished; None if there is none."""
    fingerprint = tag(study, "fingerprint")
    if fingerprint is None or tag(study, "failed"):
        return None
    return tracking.find_finished(RunKind.COMPARE, fingerprint, study.info.experiment_id)


def models_table(cells: Sequence[StudyCell], runs: StudyRuns) -> list[tuple[str, ...]]:
    """Mean accuracy over target languages: one row per model, one column per condition and source.

    A cell is the mean over seeds. It says how many of them it has if some failed, and `failed` if
    all did.
    """
    columns: dict[str, None] = {}
    values: dict[str, dict[str, list[float | None]]] = {}
    for cell in cells:
        if not isinstance(cell, EvaluateCell):
            continue
        column = str(cell.condition)
        if cell.finetuned:
            column += f" on {cell.finetuned.config.source}"
        columns[column] = None
        row = values.setdefault(cell.model_label or cell.config.model, {})
        run = runs.evaluated.get(cell)
        row.setdefault(column, []).append(run.data.metrics["accuracy/mean"] if run else None)

    def text(accuracies: Sequence[float | None]) -> str:
        known = [accuracy for accuracy in accuracies if accuracy is not None]
        if not known:
            return "failed"
        mean = decimal(sum(known) / len(known), 3, signed=False)
        return (
            mean if len(known) == len(accuracies) else f"{mean} ({len(known)} of {len(accuracies)})"
        )

    rows = [
        (model, *(text(row.get(name, [])) for name in columns)) for model, row in values.items()
    ]
    return [("model", *columns), *rows]


def _log_unusable(unusable: Mapping[StudyCell, str]) -> None:
    """Log which cells will not be run, those of one reason together."""
    for reason, labels in _by_reason(unusable).items():
        logger.error(f"{'; '.join(labels)} cannot be run, and the other cells are: {reason}")


def run_cells(
    config: StudyConfig,
    cells: Sequence[StudyCell],
    sessions: Mapping[str, Session],
    unusable: Mapping[StudyCell, str],
) -> StudyRuns:
    """Run the cells that are not `unusable` in order, one model after another in memory."""
    runs = StudyRuns()
    usable = [cell for cell in cells if cell not in unusable]
    remaining = Remaining(usable, partial(study_weights, config, cells, sessions))
    numbered = list(enumerate(cells, 1))
    for model, members in groupby(numbered, lambda entry: entry[1].config.model):
        session = sessions[model]
        not_loaded: str | None = None
        for number, cell in members:
            label = f"cell {number} of {len(cells)} · {cell.label}"
            if known := unusable.get(cell, not_loaded):
                runs.failed[cell] = known
                remaining.finish(cell, computed=False)
                logger.error(f"{label} is not run, for the reason above")
                continue
            began = time.monotonic()
            try:
                with reporting(remaining, cell), bars_of(f"{number}/{len(cells)} {cell.short}"):
                    _run_cell(cell, runs, session, label)
            except (ProcessError, TrackingError):
                raise  # no other cell would fare better
            except Exception as error:  # any failure of a cell leaves the others to be done
                reason = str(error) if isinstance(error, IsoglossError) else repr(error)
                runs.failed[cell] = reason
                remaining.finish(cell, computed=False)
                logger.error(f"{label} failed: {reason}")
                logger.debug("traceback of the failed cell", exc_info=error)
                if isinstance(error, ModelError) and not session.loaded:
                    not_loaded = reason
            else:
                _log_done(cell, runs, remaining, label, time.monotonic() - began)
        session.unload()
        return_freed_memory()
    return runs


def _log_done(
    cell: StudyCell, runs: StudyRuns, remaining: Remaining, label: str, seconds: float
) -> None:
    """Log how long a cell took that was computed, and what is left of the study."""
    run = runs.finetuned[cell] if isinstance(cell, FinetuneCell) else runs.evaluated[cell]
    # A run that was there before has the time of another process.
    computed = run.info.start_time / 1000 >= time.time() - seconds
    remaining.finish(cell, computed=computed)
    if computed:
        logger.info(f"{label}: done in {duration(seconds)}{remaining.words()}")


def _run_cell(cell: StudyCell, runs: StudyRuns, session: Session, label: str) -> None:
    if isinstance(cell, FinetuneCell):
        runs.finetuned[cell] = do_cell(cell, session, label)
    elif cell.finetuned and cell.finetuned not in runs.finetuned:
        raise StudyError(f"its adapter is missing, because {cell.finetuned.label!r} failed.")
    else:
        finetuned = runs.finetuned[cell.finetuned] if cell.finetuned else None
        runs.evaluated[cell] = do_cell(cell, session, label, finetuned)


def _compare(
    config: StudyConfig, runs: StudyRuns, labels: Mapping[str, str], full_command: str
) -> Run | None:
    """Compare what has been evaluated; None if the failures leave nothing to compare.

    `labels` are the names of models by revision: a run that is reused may know another name.
    """
    from isogloss.analysis.comparison import QuickLook
    from isogloss.stages.compare import compare_runs  # see `run_study`

    if not runs.evaluated:
        logger.error("no comparison: nothing has been evaluated")
        return None
    omissions = [
        Omission(OmissionReason.FAILED_CELLS, cells=tuple(labels), problem=reason)
        for reason, labels in _by_reason(runs.failed).items()
    ]
    omissions += [
        Omission(OmissionReason.LOST_SOURCES, sources=tuple(sources), problem=reason)
        for reason, sources in lost_sources(config, runs).items()
    ]
    source = study_sources(config)[0].source
    comparison = CompareConfig(study=(config.study,), source=source, **config.compare.model_dump())
    try:
        collected = group_runs(
            runs.evaluated.values(), omissions, labels, comparison.allow_versions
        )
        look = QuickLook(config.finetune.steps, full_command)
        return compare_runs(collected, comparison, look=look)
    except IsoglossError as error:
        if not runs.failed:
            raise
        logger.error(f"no comparison: {error}")
        return None


def lost_sources(config: StudyConfig, runs: StudyRuns) -> dict[str, list[str]]:
    """The sources of which no adapter was evaluated, by the reason of their first failure."""
    evaluated = {cell.finetuned.config.source for cell in runs.evaluated if cell.finetuned}
    reasons: dict[str, str] = {}
    for cell, reason in runs.failed.items():
        finetuned = cell if isinstance(cell, FinetuneCell) else cell.finetuned
        if finetuned and finetuned.config.source not in evaluated:
            reasons.setdefault(finetuned.config.source, reason)
    by_reason: dict[str, list[str]] = {}
    for entry in study_sources(config):
        if entry.source in reasons:
            by_reason.setdefault(reasons[entry.source], []).append(entry.source)
    return by_reason


def _failures(runs: StudyRuns, n_cells: int) -> str:
    """What failed, the cells of one reason together."""
    by_reason = _by_reason(runs.failed)
    lines = "".join(f"\n- {'; '.join(labels)}: {why}" for why, labels in by_reason.items())
    return (
        f"{len(runs.failed)} of {n_cells} cells failed; the same command runs what is missing:"
        f"{lines}"
    )


def _by_reason(failed: Mapping[StudyCell, str]) -> dict[str, list[str]]:
    """The labels of cells that failed, by reason."""
    by_reason: dict[str, list[str]] = {}
    for cell, reason in failed.items():
        by_reason.setdefault(reason, []).append(cell.label)
    return by_reason


def run_main(config: MainConfig, launch: Launch = in_this_process) -> str:
    """The entry point `main`; returns the id of the compare run, or "" for a dry run."""
    if config.dry_run:
        run_dry(config)
        return ""
    study = configured_study(config)
    command = command_without_quick(config) if study.quick else ""
    run_id = run_study(study, config.experiment, launch, command)
    print(f"all runs: `mlflow ui --backend-store-uri {shown_uri()}`")
    return run_id
