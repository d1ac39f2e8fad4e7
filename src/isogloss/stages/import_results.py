"""The import step: results of other tools become evaluate runs, which `compare` can judge."""

import hashlib
import json
import logging
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.entities import Run

from isogloss import tracking
from isogloss.config import ImportConfig
from isogloss.importers.read_results import ImportedRun, read_results
from isogloss.predictions.metrics import evaluation_metrics
from isogloss.tracking.tags import NO_ADAPTER, RunTags
from isogloss.types import Condition, Format

logger = logging.getLogger(__name__)


def import_results(config: ImportConfig) -> list[Run]:
    """Make an evaluate run for each model, source, condition, seed, task and format.

    They are below one run of kind `import`; a finished run with the same content is reused. Nothing
    is written before all that `path` names has been read and found sound: DataError or ConfigError.
    """
    imported = read_results(config)
    tags = {"study": config.study, "imported": _file(config)}
    with tracking.open_run("import", "import", config, tags, config.experiment):
        runs = [_leave(key, table, config) for key, table in imported.items()]
        mlflow.set_tag("isogloss.cells", " ".join(run.info.run_id for run in runs))
    return runs


def _leave(key: ImportedRun, table: pd.DataFrame, config: ImportConfig) -> Run:
    fingerprint = tracking.fingerprint(kind="import", key=key, rows=_digest(table))
    if found := tracking.find_finished(
        "evaluate", fingerprint, tracking.choose_experiment(config.experiment)
    ):
        logger.info(f"{key.condition}: reusing run {found.info.run_id}")
        tracking.record_reuse(found, config.study)
        return found
    condition = Condition(key.condition)
    # Runs of unknown seed are different replicates.
    adapter = f"imported-{key.source}-{key.seed or fingerprint[:8]}"
    data = [name for name in ("language", "item_id", "passage_id", "answer") if name in table]
    tags = RunTags(
        model=key.model,
        source=key.source,
        adapter=adapter if condition.tuned else NO_ADAPTER,
        task=key.task,
        format=Format(key.format),
        condition=condition,
        seed=int(key.seed) if key.seed else None,
        study=config.study,
        fingerprint=fingerprint,
        data_digest=_digest(table[data]),
        imported=_file(config),
        prompt_version="imported",
    ).as_dict()
    resolved = ImportConfig.model_validate(
        {**config.model_dump(), **key._asdict(), "seed": int(key.seed) if key.seed else None}
    )
    with tracking.open_run("evaluate", key.condition, resolved, tags, config.experiment) as run:
        mlflow.log_metrics(evaluation_metrics(table, key.source))
        tracking.log_predictions(table)
    return mlflow.get_run(run.info.run_id)


def _digest(table: pd.DataFrame) -> str:
    """Hexadecimal sha256 of rows in their order, whatever the file they came from."""
    digest = hashlib.sha256()
    for row in table.to_dict("records"):
        digest.update(json.dumps(row, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _file(config: ImportConfig) -> str:
    """The name of the file or folder, or the pattern, without the folders above it."""
    return Path(config.path).expanduser().resolve().name


def run_import(config: ImportConfig) -> None:
    """The entry point `import`."""
    for run in import_results(config):
        tags, values = run.data.tags, run.data.metrics
        counts = [value for name, value in values.items() if name.startswith("n/")]
        print(
            f"{tags['isogloss.condition']:<10} {tags['isogloss.model']}: {len(counts)} languages, "
            f"{sum(counts):.0f} items, accuracy {values['accuracy/mean']:.3f}, "
            f"run {run.info.run_id}"
        )
