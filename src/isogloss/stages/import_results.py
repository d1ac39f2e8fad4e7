"""Import: results of other tools become evaluate runs, which `compare` can use."""

import hashlib
import json
import logging
from dataclasses import dataclass

import mlflow
import pandas as pd
from mlflow.entities import Run

from isogloss import tracking
from isogloss.config import ImportConfig
from isogloss.files import user_path
from isogloss.importers.read_results import ImportedRun, read_results
from isogloss.predictions.metrics import evaluation_metrics, language_table, logged_metrics
from isogloss.stages.run_names import finished_words, run_name
from isogloss.tracking import NO_ADAPTER, RunKind, RunTags, tag
from isogloss.tracking.tags import in_parts
from isogloss.types import Condition, Format
from isogloss.version import METRICS_VERSION

logger = logging.getLogger(__name__)

PROMPT_VERSION = "imported"
DATA_COLUMNS = ("language", "item_id", "passage_id", "answer")  # where the file has them


@dataclass(frozen=True)
class RunToLog:
    """One evaluate run of an import: its predictions, tags and resolved configuration."""

    predictions: pd.DataFrame
    tags: RunTags
    config: ImportConfig

    @property
    def name(self) -> str:
        """The name of the run, as that of an evaluation by isogloss."""
        condition = self.tags.condition
        tuned = condition is not None and condition.tuned
        return run_name(
            str(condition),
            [self.tags.model] if self.tags.model else [],
            [self.tags.source] if self.tags.source and tuned else [],
            self.tags.task,
            self.tags.seed,
        )


def import_results(config: ImportConfig) -> list[Run]:
    """Make one evaluate run per model, source, condition, seed, task and format.

    The runs have one parent run of kind `import`; a finished run with the same content is reused.
    Everything that `path` names is read and validated first: DataError or ConfigError.
    """
    planned = [plan_run(run, table, config) for run, table in read_results(config).items()]
    tags = RunTags(study=config.study, imported=_file_name(config)).as_dict()
    conditions = " and ".join(dict.fromkeys(str(run.tags.condition) for run in planned))
    name = run_name(
        f"import {config.study}: {conditions}" if config.study else f"import {conditions}",
        [run.tags.model for run in planned if run.tags.model],
        [],
        " and ".join(dict.fromkeys(run.tags.task for run in planned if run.tags.task)),
    )
    with (
        tracking.locked_parent(RunKind.IMPORT, config, config.experiment) as parent,
        tracking.open_run(
            RunKind.IMPORT, name, config, tags | parent.tags, config.experiment, parent.work
        ),
    ):
        runs = [_reuse_or_log(run) for run in planned]
        mlflow.set_tags(in_parts("cells", [run.info.run_id for run in runs]))
    return runs


def plan_run(run: ImportedRun, predictions: pd.DataFrame, config: ImportConfig) -> RunToLog:
    """The evaluate run of one table of predictions."""
    condition = Condition(run.condition)
    seed = int(run.seed) if run.seed else None
    fingerprint = tracking.fingerprint(
        kind="import", key=run, rows=table_digest(predictions), metrics=METRICS_VERSION
    )
    # Adapters of unknown seed are different replicates, so each has a name of its own.
    adapter = f"imported-{run.source}-{run.seed or fingerprint[:8]}"
    data = [name for name in DATA_COLUMNS if name in predictions]
    tags = RunTags(
        model=run.model,
        source=run.source or None,
        adapter=adapter if condition.tuned else NO_ADAPTER,
        task=run.task,
        format=Format(run.format),
        condition=condition,
        seed=seed,
        study=config.study,
        fingerprint=fingerprint,
        data_digest=table_digest(predictions[data]),
        imported=_file_name(config),
        metric=run.metric or None,
        prompt_version=PROMPT_VERSION,
    )
    known = {
        **run._asdict(),
        "source": run.source or None,
        "seed": seed,
        "metric": run.metric or None,
    }
    resolved = {**config.model_dump(), **known}
    return RunToLog(predictions, tags, ImportConfig.model_validate(resolved))


def _reuse_or_log(run: RunToLog) -> Run:
    tags, config = run.tags, run.config
    with tracking.reuse_or_lock(
        RunKind.EVALUATE, str(tags.fingerprint), config.experiment, config.study
    ) as (work, finished):
        if finished:
            logger.info(f"{run.name}: reusing run {finished_words(finished)}")
            return finished
        with tracking.open_run(
            RunKind.EVALUATE, run.name, config, tags.as_dict(), config.experiment, work
        ) as logged:
            values = evaluation_metrics(run.predictions, tags.source)
            tracking.log_metrics_once(logged_metrics(values))
            tracking.log_predictions(run.predictions, language_table(values))
        return mlflow.get_run(logged.info.run_id)


def table_digest(table: pd.DataFrame) -> str:
    """Hexadecimal sha256 of the rows in order, independent of the file they come from."""
    digest = hashlib.sha256()
    for row in table.to_dict("records"):
        digest.update(json.dumps(row, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _file_name(config: ImportConfig) -> str:
    """The name of the file, folder or pattern, without the folders above it."""
    return user_path(config.path).resolve().name


def run_import(config: ImportConfig) -> list[str]:
    """The entry point `import`; returns the ids of the evaluate runs."""
    runs = import_results(config)
    for run in runs:
        values = run.data.metrics
        counts = [value for name, value in values.items() if name.startswith("n/")]
        n_languages = f"{len(counts)} {'language' if len(counts) == 1 else 'languages'}"
        print(
            f"{tag(run, 'condition'):<10} {_what(run)}: {n_languages}, {sum(counts):.0f} items, "
            f"accuracy {values['accuracy/mean']:.3f}, run {run.info.run_id}"
        )
    return [run.info.run_id for run in runs]


def _what(run: Run) -> str:
    """What distinguishes an imported run from the others of its condition."""
    parts = [f"{tag(run, 'model')}, {tag(run, 'task')} ({tag(run, 'format')})"]
    if source := tag(run, "source"):
        tuned = Condition(tag(run, "condition") or "").tuned
        parts.append(f"{'tuned on' if tuned else 'rows of source'} {source}")
    if seed := tag(run, "seed"):
        parts.append(f"seed {seed}")
    return ", ".join(parts)
