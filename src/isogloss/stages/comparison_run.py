"""The run of a comparison: computed, drawn and logged; `stages.compare` reuses a finished one.

What computes takes long to import, and a finished run does not need it; what draws takes as long,
and the verdict does not need it.
"""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Run

from isogloss import tracking
from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.report.items import ItemData, item_data
from isogloss.report.note import answer, note
from isogloss.stages.collect_runs import read_tables
from isogloss.stages.compare import ANSWER
from isogloss.stages.item_texts import item_texts
from isogloss.stages.run_names import run_name
from isogloss.tracking import NO_ADAPTER, RunKind, tag
from isogloss.tracking.artifacts import log_folder
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.tags import PREFIX, in_parts, read_tags
from isogloss.tracking.versions import comparison_versions, statistics_libraries, versions_text

if TYPE_CHECKING:
    from isogloss.stages.compare import ComparisonPlan

logger = logging.getLogger(__name__)

LONGEST_TAG = 5000  # the limit of every MLflow server
SHARED_TAGS = ("task", "format", "answer_labels", "prompt_version", "prompt_language")
SEVERAL = "several"


def compute(plan: "ComparisonPlan", experiment: str | None, work: WorkDir) -> Run:
    """Compare the runs of a plan, and log verdict, numbers, figures and report as a run."""
    config, collected = plan.config, plan.collected
    tables = read_tables(collected)
    comparison = compare(
        tables,
        source=plan.source,
        margin=config.margin,
        branch=config.branch,
        condition=config.condition,
        against=config.against,
        covariates=plan.covariates,
        omissions=collected.omissions,
        shared_vocabulary=plan.shared_vocabulary,
        missing=config.missing,
        quick=plan.quick,
    )
    runs = collected.runs
    imported = any(tag(run, "imported") for run in runs)
    normalisation = None if imported else read_tags(runs[0]).normalisation  # the same in all
    items = item_data(comparison, tables, item_texts(runs), normalisation)
    return _log(plan, comparison, items, experiment, work)


def _log(
    plan: "ComparisonPlan",
    comparison: Comparison,
    items: ItemData,
    experiment: str | None,
    work: WorkDir,
) -> Run:
    config = plan.config
    name = run_name(
        f"compare {config.condition} to {config.against}",
        [model.label for model in comparison.models],
        [plan.source],
        comparison.task,
    )
    tags = _tags(plan, comparison)
    with (
        tracking.open_run(RunKind.COMPARE, name, config, tags, experiment, work) as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        logger.info(f"{name}: verdict '{tags['verdict']}'; the report follows")
        from isogloss.stages.comparison_report import write_report

        write_report(plan, comparison, items, Path(folder), run.info.run_id)
        log_folder(Path(folder), "report")
        mlflow.set_tags(in_parts("cells", [run.info.run_id for run in plan.collected.runs]))
        tracking.log_metrics_once(comparison_metrics(comparison))
        mlflow.set_tag("mlflow.note.content", note(comparison, run.info.run_id)[:LONGEST_TAG])
        mlflow.set_tag(f"{PREFIX}{ANSWER}", answer(comparison, run.info.run_id)[:LONGEST_TAG])
    return mlflow.get_run(run.info.run_id)


def _tags(plan: "ComparisonPlan", comparison: Comparison) -> dict[str, str | None]:
    """The tags of the compare run, without their prefix."""
    runs = plan.collected.runs
    verdicts = claim_verdicts(comparison)
    return {
        **{name: tag(runs[0], name) for name in SHARED_TAGS},
        "model": ", ".join(model.label for model in comparison.models),
        "source": plan.source,
        "adapter": _adapter(plan),
        "reasoning": plan.config.condition.reasoning,
        "condition": plan.config.condition,
        "against": plan.config.against,
        "study": plan.study,
        "quick": "true" if plan.quick else None,
        "fingerprint": plan.fingerprint,
        "verdict": verdicts.kinship,
        "versions": versions_text(comparison_versions()),
        "libraries": versions_text(statistics_libraries()),
        **{f"verdict_{claim}": verdict for claim, verdict in verdicts.by_claim.items()},
    }


def _adapter(plan: "ComparisonPlan") -> str:
    """The digest of the adapter of the compared condition, `none` or `several`."""
    adapters = {
        tag(run, "adapter") or NO_ADAPTER
        for key, runs in plan.collected.by_key.items()
        if key.condition == plan.config.condition and key.source in ("", plan.source)
        for run in runs
    }
    return adapters.pop() if len(adapters) == 1 else SEVERAL
