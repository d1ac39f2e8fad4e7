"""The margin and the primary analysis of a study, logged when it starts, before results exist."""

from collections.abc import Sequence
from datetime import UTC, datetime

import mlflow
from mlflow.entities import Run

from isogloss.analysis.crossed import MIN_RELATED_BRANCHES
from isogloss.config import StudyConfig
from isogloss.languages import source_branch
from isogloss.tracking import RunKind, tag

CROSSED_DESIGN = "crossed design"
NOT_STATED = "no: margin and primary analysis were not logged before results existed"


def plan_tags(config: StudyConfig, sources: Sequence[str]) -> dict[str, str]:
    """Tags of a study's run that state its margin and primary analysis, without their prefix."""
    branches = {source_branch(source) for source in sources}
    crossed = len(branches) >= MIN_RELATED_BRANCHES
    return {
        "stated_margin": str(config.compare.margin),
        "stated_branch": config.compare.branch or "auto",
        "primary_analysis": CROSSED_DESIGN if crossed else contrast_of(sources[0]),
    }


def contrast_of(source: str) -> str:
    """The name of the analysis of one source."""
    return f"contrast of {source}"


def stated_in_advance(study: str | None, evaluated: Sequence[Run], expected: dict[str, str]) -> str:
    """Whether a run of the study stated these `plan_tags` before the first result, and when.

    The first result is the end of the first of the `evaluated` runs with an adapter, or of any. Of
    several runs of one study, the first that states the same counts.
    """
    results = [run for run in evaluated if run.info.end_time]
    tuned = [run for run in results if (tag(run, "condition") or "").startswith("tuned")]
    if not study or not results:
        return NOT_STATED
    first_result = min(run.info.end_time for run in tuned or results)
    experiments = sorted({run.info.experiment_id for run in evaluated})
    for run in _study_runs(study, experiments):
        if all(tag(run, name) == value for name, value in expected.items()):
            if run.info.start_time > first_result:
                return NOT_STATED
            start = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
            return (
                f"yes: margin and primary analysis ({expected['primary_analysis']}) were logged on "
                f"{start:%Y-%m-%d %H:%M} UTC, before the first result"
            )
    return NOT_STATED


def _study_runs(study: str, experiments: Sequence[str]) -> list[Run]:
    """The runs of a study, the first one first."""
    found = mlflow.search_runs(
        experiment_ids=list(experiments),
        filter_string=f"tags.`isogloss.kind` = '{RunKind.STUDY}'",
        order_by=["attributes.start_time ASC"],
        output_format="list",
    )
    return [run for run in found if tag(run, "study") == study]
