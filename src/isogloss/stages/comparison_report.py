"""The report of a compare run: what is drawn, where it comes from, which runs it compares."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from isogloss.analysis.comparison import Comparison
from isogloss.report.evidence import relative_margin_text
from isogloss.report.items import ItemData
from isogloss.report.page import write
from isogloss.stages.collect_runs import CollectedRuns
from isogloss.stages.comparable_runs import differing_libraries
from isogloss.stages.stated_plan import CROSSED_DESIGN, contrast_of, stated_in_advance
from isogloss.tracking import NO_ADAPTER, tag
from isogloss.tracking.comparability import language_digests
from isogloss.version import __version__

if TYPE_CHECKING:
    from isogloss.stages.compare import ComparisonPlan

SHARED_PASSAGES = (
    "shared by training and test items (share_passages), as in the published split by question: "
    "gains may come from passages seen in training"
)


def write_report(
    plan: "ComparisonPlan", comparison: Comparison, items: ItemData, folder: Path, run_id: str
) -> None:
    """Write figures, tables and pages of the compare run with this id to a folder."""
    write(
        comparison,
        folder,
        _provenance(plan, comparison),
        _runs_table(plan.collected),
        items,
        run_id,
    )


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
