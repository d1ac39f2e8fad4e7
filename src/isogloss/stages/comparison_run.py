"""The run of a comparison: computed, drawn and logged; `stages.compare` reuses a finished one.

What draws takes long to import, and a finished run does not need it.
"""

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Run

from isogloss import tracking
from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.report.evidence import relative_margin_text
from isogloss.report.items import ItemData, item_data
from isogloss.report.page import write
from isogloss.report.verdict import note
from isogloss.stages.collect_runs import CollectedRuns, read_tables
from isogloss.stages.comparable_runs import differing_libraries
from isogloss.stages.item_texts import item_texts
from isogloss.stages.run_names import run_name
from isogloss.stages.stated_plan import CROSSED_DESIGN, contrast_of, stated_in_advance
from isogloss.tracking import NO_ADAPTER, RunKind, tag
from isogloss.tracking.artifacts import log_folder
from isogloss.tracking.comparability import language_digests
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.tags import in_parts
from isogloss.tracking.versions import comparison_versions, statistics_libraries, versions_text
from isogloss.version import __version__

if TYPE_CHECKING:
    from isogloss.stages.compare import ComparisonPlan

LONGEST_TAG = 5000  # the limit of every MLflow server
SHARED_TAGS = ("task", "format", "answer_labels", "prompt_version", "prompt_language")
SEVERAL = "several"
SHARED_PASSAGES = (
    "shared by training and test items (share_passages), as in the published split by question: "
    "gains may come from passages seen in training"
)


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
    )
    items = item_data(comparison, tables, item_texts(collected.runs))
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
        write(
            comparison,
            Path(folder),
            _provenance(plan, comparison),
            _runs_table(plan.collected),
            items,
            run.info.run_id,
        )
        log_folder(Path(folder), "report")
        mlflow.set_tags(in_parts("cells", [run.info.run_id for run in plan.collected.runs]))
        tracking.log_metrics_once(comparison_metrics(comparison))
        mlflow.set_tag("mlflow.note.content", note(comparison, run.info.run_id)[:LONGEST_TAG])
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


def _provenance(plan: "ComparisonPlan", comparison: Comparison) -> dict[str, str]:
    def values_of(name: str) -> str:
        values = (tag(run, name) for run in plan.collected.runs)
        return "; ".join(dict.fromkeys(value for value in values if value))

    packages = [f"{name} {version(name)}" for name in ("mlflow", "numpy", "scipy", "pandas")]
    facts = {
        "study": plan.study or "none",
        "stated in advance": _stated(plan, comparison),
        "margin": relative_margin_text(comparison),
        "task": f"{comparison.task}, {comparison.format} format",
        "answer labels": values_of("answer_labels"),
        "prompt version": values_of("prompt_version"),
        "prompt language": values_of("prompt_language"),
        "test data (sha256)": values_of("data_digest"),
        "fine-tuning recipe": values_of("recipe"),
        "passages": SHARED_PASSAGES if values_of("share_passages") else "",
        "dtype": values_of("dtype"),
        "attention": values_of("attention"),
        "libraries that differ between runs": differing_libraries(plan.collected.runs),
        "computed with": values_of("libraries"),
        "versions": ", ".join([f"isogloss {__version__}", *packages]),
    }
    return {name: value for name, value in facts.items() if value}


def _stated(plan: "ComparisonPlan", comparison: Comparison) -> str:
    expected = {
        "stated_margin": str(plan.config.margin),
        "stated_branch": plan.config.branch or "auto",
        "primary_analysis": CROSSED_DESIGN if comparison.decisive else contrast_of(plan.source),
    }
    return stated_in_advance(plan.config.study or (), plan.collected.runs, expected)


def _runs_table(collected: CollectedRuns) -> list[tuple[str, ...]]:
    """One row per run, headings first."""
    rows: list[tuple[str, ...]] = [
        ("Model", "Condition", "Source", "Seed", "Adapter", "Languages", "Run")
    ]
    for key, runs in collected.by_key.items():
        for run in runs:
            # Imported runs have no digests.
            accuracies = {name for name in run.data.metrics if name.startswith("accuracy/")}
            n_languages = len(language_digests(run)) or len(accuracies - {"accuracy/mean"})
            adapter = (tag(run, "adapter") or NO_ADAPTER)[:12]
            source = key.source or "none"
            rows.append(
                (key.model, key.condition, source, key.seed, adapter, str(n_languages),
                 run.info.run_id)
            )  # fmt: skip
    return rows
