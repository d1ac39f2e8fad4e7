"""The compare step: compare the conditions of evaluate runs, and log the report as a run."""

import logging
import os
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow.entities import Run

from isogloss import tracking
from isogloss.analysis.adjusted_contrast import Covariates
from isogloss.analysis.claims import claim_verdicts
from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.analysis.covariate_file import read_covariates
from isogloss.analysis.crossed import Overlaps
from isogloss.config import CompareConfig
from isogloss.errors import ConfigError
from isogloss.report.evidence import relative_margin_text
from isogloss.report.items import ItemData, item_data
from isogloss.report.omissions import omission_sentence
from isogloss.report.page import write
from isogloss.report.verdict import note
from isogloss.stages.collect_runs import CollectedRuns, collect_runs, read_tables, source_language
from isogloss.stages.comparable_runs import differing_libraries
from isogloss.stages.run_names import finished_words, run_name
from isogloss.stages.stated_plan import CROSSED_DESIGN, contrast_of, stated_in_advance
from isogloss.tracking import NO_ADAPTER, RunKind, tag
from isogloss.tracking.artifacts import log_folder
from isogloss.tracking.comparability import language_digests
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.reuse import REPORT
from isogloss.tracking.tags import in_parts
from isogloss.tracking.versions import comparison_versions, statistics_libraries, versions_text
from isogloss.types import LanguageCode
from isogloss.version import __version__

logger = logging.getLogger(__name__)

LONGEST_TAG = 5000  # the limit of every MLflow server
SHARED_TAGS = ("task", "format", "answer_labels", "prompt_version", "prompt_language")
SEVERAL = "several"
SHARED_PASSAGES = (
    "shared by training and test items (share_passages), as in the published split by question: "
    "gains may come from passages seen in training"
)


@dataclass(frozen=True)
class ComparisonPlan:
    """Which runs are compared, how and for which source; `fingerprint` covers all of it.

    `shared_vocabulary` is None where it is not known, or nothing was fine-tuned.
    """

    collected: CollectedRuns
    config: CompareConfig
    source: LanguageCode
    study: str | None
    covariates: Covariates | None
    fingerprint: str
    shared_vocabulary: Overlaps | None = None


def run_compare(config: CompareConfig) -> str:
    """The entry point `compare`; returns the id of the compare run."""
    collected = collect_runs(config)
    # Under `mlflow run` the project run decides where the result goes, and `experiment` only
    # where evaluate runs are searched.
    experiment = None
    if config.experiment and "MLFLOW_RUN_ID" not in os.environ:
        experiment = config.experiment[0]
    run = compare_runs(collected, config, experiment)
    print_verdict(run)
    return str(run.info.run_id)


def compare_runs(
    collected: CollectedRuns, config: CompareConfig, experiment: str | None = None
) -> Run:
    """Compare evaluate runs; return the run that holds verdict, numbers, figures and report.

    A finished run of the same comparison is reused. `experiment` is where a new run goes. Raises
    ComparisonError if the runs cannot be compared.
    """
    plan = plan_comparison(collected, config)
    with tracking.reuse_or_lock(RunKind.COMPARE, plan.fingerprint, experiment, plan.study) as (
        work,
        run,
    ):
        if run:
            logger.info(f"compare: reusing run {finished_words(run)}")
            return run
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
        from isogloss.stages.item_texts import item_texts  # torch takes seconds

        items = item_data(comparison, tables, item_texts(collected.runs))
        return _log(plan, comparison, items, experiment, work)


def plan_comparison(collected: CollectedRuns, config: CompareConfig) -> ComparisonPlan:
    """What a configuration compares in runs; ConfigError if a condition is compared with itself."""
    if config.against == config.condition:
        raise ConfigError(f"condition {config.condition.value!r} cannot be compared with itself.")
    source = source_language(collected, config)
    overlaps = _overlaps(collected) if config.condition.tuned else None
    covariates = read_covariates(Path(config.covariates)) if config.covariates else None
    fingerprint = tracking.fingerprint(
        kind="compare",
        runs=[
            [*key, tag(run, "fingerprint"), run.info.run_id]
            for key, runs in collected.by_key.items()
            for run in runs
        ],
        source=source,
        condition=config.condition,
        against=config.against,
        branch=config.branch,
        margin=config.margin,
        missing=config.missing,
        left_out=[omission_sentence(omission) for omission in collected.omissions],
        versions=comparison_versions(),
        # A machine without the model or the data does not have them.
        shared_vocabulary=overlaps
        and [(*pair, round(overlap, 6)) for pair, overlap in sorted(overlaps.items())],
        covariates=covariates,
    )
    return ComparisonPlan(
        collected=collected,
        config=config,
        source=source,
        study=",".join(config.study) if config.study else None,
        covariates=covariates,
        fingerprint=fingerprint,
        shared_vocabulary=overlaps,
    )


def _overlaps(collected: CollectedRuns) -> Overlaps | None:
    """Shared vocabulary of several sources; tokenizers and torch take seconds to import."""
    if len({key.source for key in collected.by_key} - {""}) < 2:
        return None
    from isogloss.stages.shared_vocabulary import shared_vocabulary

    return shared_vocabulary(collected)


def print_verdict(run: Run) -> None:
    """Print the answer with numbers and checks, the verdict once more, and where the report is.

    The verdict is repeated because a terminal shows the end of a long output.
    """
    print(f"\n{run.data.tags['mlflow.note.content']}\n")
    print(f"verdict: {tag(run, 'verdict')}")
    print(f"report: {tracking.artifact_path(run, REPORT)}")


def _log(
    plan: ComparisonPlan,
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


def _tags(plan: ComparisonPlan, comparison: Comparison) -> dict[str, str | None]:
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


def _adapter(plan: ComparisonPlan) -> str:
    """The digest of the adapter of the compared condition, `none` or `several`."""
    adapters = {
        tag(run, "adapter") or NO_ADAPTER
        for key, runs in plan.collected.by_key.items()
        if key.condition == plan.config.condition and key.source in ("", plan.source)
        for run in runs
    }
    return adapters.pop() if len(adapters) == 1 else SEVERAL


def _provenance(plan: ComparisonPlan, comparison: Comparison) -> dict[str, str]:
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


def _stated(plan: ComparisonPlan, comparison: Comparison) -> str:
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
