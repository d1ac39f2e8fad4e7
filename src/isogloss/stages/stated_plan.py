"""The margin and the primary analysis of a study, logged when it starts, before results exist."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, auto

from mlflow.entities import Run

from isogloss.analysis.crossed_sensitivity import MIN_RELATED_BRANCHES
from isogloss.config import StudyConfig
from isogloss.formatting import listed
from isogloss.languages import is_mixed, source_branch
from isogloss.stats.margins import is_percentage
from isogloss.tracking import RunKind, studies_of, tag
from isogloss.tracking.search import find_runs
from isogloss.tracking.tags import prefixed

CROSSED_DESIGN = "crossed design"
NOT_STATED = "no: margin and primary analysis were not logged before results existed"


def plan_tags(config: StudyConfig, sources: Sequence[str]) -> dict[str, str]:
    """Tags of a study's run that state its margin and primary analysis, without their prefix."""
    branches = {source_branch(source) for source in sources if not is_mixed(source)}
    crossed = len(branches) >= MIN_RELATED_BRANCHES
    return {
        "stated_margin": str(config.compare.margin),
        "stated_branch": config.compare.branch or "auto",
        "primary_analysis": CROSSED_DESIGN if crossed else contrast_of(sources[0]),
    }


def contrast_of(source: str) -> str:
    """The name of the analysis of one source."""
    return f"contrast of {source}"


class Statement(Enum):
    """What a study stated about the analysis that is shown."""

    IN_ADVANCE = auto()
    OTHERWISE = auto()  # another analysis was stated in advance
    LATE = auto()  # stated after the first result
    ABSENT = auto()


def stated_in_advance(
    studies: Sequence[str], evaluated: Sequence[Run], expected: Mapping[str, str]
) -> str:
    """Whether each study stated these `plan_tags` before its first result, and when.

    The first result is the end of the first of the study's `evaluated` runs with an adapter, or of
    any. Of several runs of one study, the first that states the same counts.
    """
    sentences = {study: _sentence(study, evaluated, expected) for study in studies}
    if len(sentences) > 1:
        return "; ".join(f"study {study}: {text}" for study, text in sentences.items())
    return next(iter(sentences.values()), NOT_STATED)


def _sentence(study: str, evaluated: Sequence[Run], expected: Mapping[str, str]) -> str:
    # Runs that were chosen by id may belong to another study.
    own = [run for run in evaluated if study in studies_of(run)] or evaluated
    statement, plan = _statement(study, own, expected)
    if plan is None:
        return NOT_STATED
    start = datetime.fromtimestamp(plan.info.start_time / 1000, UTC)
    logged = f"logged on {start:%Y-%m-%d %H:%M} UTC"
    if statement == Statement.LATE:
        return f"no: margin and primary analysis were {logged}, after the first result"
    if statement == Statement.OTHERWISE:
        differences = " and ".join(_differences(plan, own, expected))
        return f"no: {differences} (the plan was {logged}, before the first result)"
    return (
        f"yes: margin and primary analysis ({expected['primary_analysis']}) were {logged}, before "
        f"the first result"
    )


def _statement(
    study: str, evaluated: Sequence[Run], expected: Mapping[str, str]
) -> tuple[Statement, Run | None]:
    """What the study stated, and its run that did; None if none did or there is no result."""
    results = [run for run in evaluated if run.info.end_time]
    experiments = sorted({run.info.experiment_id for run in evaluated})
    plans = [run for run in _study_runs(study, experiments) if tag(run, "primary_analysis")]
    if not results or not plans:
        return Statement.ABSENT, None
    tuned = [run for run in results if _is_tuned(run)]
    first_result = min(run.info.end_time for run in tuned or results)
    early = [run for run in plans if run.info.start_time <= first_result]
    if not early:
        return Statement.LATE, plans[0]
    for run in early:
        if all(tag(run, name) == value for name, value in expected.items()):
            return Statement.IN_ADVANCE, run
    return Statement.OTHERWISE, early[0]


def _differences(plan: Run, evaluated: Sequence[Run], expected: Mapping[str, str]) -> list[str]:
    """What was stated and what is shown instead, as clauses."""
    stated = {name: tag(plan, name) or "" for name in expected}
    clauses = []
    if stated["primary_analysis"] != expected["primary_analysis"]:
        present = {tag(run, "source") for run in evaluated if _is_tuned(run)}
        sources = (tag(plan, "sources") or tag(plan, "source") or "").split(",")
        missing = [source for source in sources if source and source not in present]
        why = f", since there is no result of {listed(missing)}" if missing else ""
        clauses.append(
            f"the {stated['primary_analysis']} was stated, but the {expected['primary_analysis']} "
            f"is shown{why}"
        )
    if stated["stated_margin"] != expected["stated_margin"]:
        before, now = (_margin_text(each["stated_margin"]) for each in (stated, expected))
        clauses.append(f"a margin of {before} was stated, but one of {now} is used")
    if stated["stated_branch"] != expected["stated_branch"]:
        clauses.append(
            f"branch {stated['stated_branch']!r} was stated, but {expected['stated_branch']!r} is "
            f"used"
        )
    return clauses


def _margin_text(margin: str) -> str:
    return (
        f"{margin} of the mean gain" if is_percentage(margin) else f"{100 * float(margin):g} points"
    )


def _is_tuned(run: Run) -> bool:
    return (tag(run, "condition") or "").startswith("tuned")


def _study_runs(study: str, experiments: Sequence[str]) -> list[Run]:
    """The runs of a study, the first one first."""
    wanted = prefixed({"kind": RunKind.STUDY, "study": study})
    return find_runs(experiments, wanted)[::-1]
