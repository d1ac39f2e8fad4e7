"""The compare step: compare the conditions of evaluate runs, and log the report as a run."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import Run

from isogloss import tracking
from isogloss.config import CompareConfig
from isogloss.errors import ConfigError
from isogloss.report.omissions import omission_sentence
from isogloss.stages.collect_runs import CollectedRuns, collect_runs, source_language
from isogloss.stages.run_names import finished_words
from isogloss.tracking import RunKind, tag
from isogloss.tracking.reuse import REPORT
from isogloss.tracking.versions import comparison_versions
from isogloss.types import LanguageCode

if TYPE_CHECKING:  # they take long to import, see `stages.comparison_run`
    from isogloss.analysis.adjusted_contrast import Covariates
    from isogloss.analysis.comparison import QuickLook
    from isogloss.analysis.crossed import Overlaps

logger = logging.getLogger(__name__)

ANSWER = "answer"  # tag: what is printed of a comparison
CLAIMS = ("C1", "C2", "C3")


@dataclass(frozen=True)
class ComparisonPlan:
    """Which runs are compared, how and for which source; `fingerprint` covers all of it.

    `shared_vocabulary` is None where it is not known, or nothing was fine-tuned. `quick` is None
    unless the runs are of quick=true.
    """

    collected: CollectedRuns
    config: CompareConfig
    source: LanguageCode
    study: str | None
    covariates: "Covariates | None"
    fingerprint: str
    shared_vocabulary: "Overlaps | None" = None
    quick: "QuickLook | None" = None


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
    collected: CollectedRuns,
    config: CompareConfig,
    experiment: str | None = None,
    look: "QuickLook | None" = None,
) -> Run:
    """Compare evaluate runs; return the run that holds verdict, numbers, figures and report.

    A finished run of the same comparison is reused. `experiment` is where a new run goes. `look`
    says more of runs of quick=true. Raises ComparisonError if the runs cannot be compared.
    """
    plan = plan_comparison(collected, config, look)
    with tracking.reuse_or_lock(RunKind.COMPARE, plan.fingerprint, experiment, plan.study) as (
        work,
        run,
    ):
        if run:
            logger.info(f"compare: reusing run {finished_words(run)}")
            return run
        logger.info(f"comparing {len(collected.runs)} runs")
        from isogloss.stages.comparison_run import compute  # takes long to import

        return compute(plan, experiment, work)


def plan_comparison(
    collected: CollectedRuns, config: CompareConfig, look: "QuickLook | None" = None
) -> ComparisonPlan:
    """What a configuration compares in runs; ConfigError if a condition is compared with itself."""
    if config.against == config.condition:
        raise ConfigError(f"condition {config.condition.value!r} cannot be compared with itself.")
    source = source_language(collected, config)
    overlaps = _overlaps(collected) if config.condition.tuned else None
    covariates = None
    if config.covariates:
        from isogloss.analysis.covariate_file import read_covariates

        covariates = read_covariates(Path(config.covariates))
    quick = None
    if any(tag(run, "quick") for run in collected.runs):
        from isogloss.analysis.comparison import QuickLook

        quick = look or QuickLook()
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
        **({"quick": (quick.steps, quick.command)} if quick else {}),
    )
    return ComparisonPlan(
        collected=collected,
        config=config,
        source=source,
        study=",".join(config.study) if config.study else None,
        covariates=covariates,
        fingerprint=fingerprint,
        shared_vocabulary=overlaps,
        quick=quick,
    )


def _overlaps(collected: CollectedRuns) -> "Overlaps | None":
    """Shared vocabulary of several sources; tokenizers and torch take seconds to import."""
    if len({key.source for key in collected.by_key} - {""}) < 2:
        return None
    from isogloss.stages.shared_vocabulary import shared_vocabulary

    return shared_vocabulary(collected)


def print_verdict(run: Run) -> None:
    """Print the answer with its numbers, the verdicts once more, and where the report is.

    The verdicts come last because a terminal shows the end of a long output. Of a quick look there
    are none. A run of an earlier version has all its checks in the place of the answer.
    """
    print(f"\n{tag(run, ANSWER) or run.data.tags['mlflow.note.content']}\n")
    if not tag(run, "quick"):
        claims = " · ".join(f"{name} {tag(run, f'verdict_{name}')}" for name in CLAIMS)
        print(f"claims (evidence in the report): {claims}")
        print(f"verdict: {tag(run, 'verdict')}")
    print(f"report: {tracking.artifact_path(run, REPORT)}")
