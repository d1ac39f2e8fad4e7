"""Whether evaluate runs may be compared."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from mlflow.entities import Run

from isogloss.analysis.score_matrix import RunKey, first_few
from isogloss.errors import ComparisonError
from isogloss.formatting import did_you_mean
from isogloss.tracking import tag
from isogloss.tracking.comparability import (
    Difference,
    item_differences,
    key_differences,
    model_name,
    model_names,
)
from isogloss.tracking.libraries import is_major, library_differences
from isogloss.types import Condition, LanguageCode

logger = logging.getLogger(__name__)


def run_key(run: Run, names: Mapping[str, str] | None = None) -> RunKey:
    """What a run measured; an adapter without a known seed is identified by its digest.

    `names` replace those of models. ComparisonError if the condition is not one of Condition.
    """
    model = (names or {}).get(model_name(run), model_name(run))
    try:
        condition = Condition(tag(run, "condition") or "")
    except ValueError:
        raise ComparisonError(
            f"run {run.info.run_id} has the condition {tag(run, 'condition')!r}; expected one of "
            f"{', '.join(Condition)}."
        ) from None
    seed = tag(run, "seed") or ""
    if not condition.tuned:
        return RunKey(model, condition, "", seed)
    digest = tag(run, "adapter") or ""
    return RunKey(model, condition, tag(run, "source") or "", seed or digest[:8])


def of_sources(runs: list[Run], sources: Sequence[LanguageCode] | None) -> list[Run]:
    """Runs but those of adapters of other sources; ComparisonError for a source without a run."""
    if sources is None:
        return runs
    chosen = [run for run in runs if _source(run) in ("", *sources)]
    present = {_source(run) for run in chosen}
    if missing := [source for source in sources if source not in present]:
        known = sorted({_source(run) for run in runs} - {""})
        raise ComparisonError(
            f"no run has an adapter of source {missing[0]!r} in `sources`; the runs have "
            f"{', '.join(known) or 'none'}{did_you_mean(missing[0], known, cutoff=0.8)}"
        )
    return chosen


def _source(run: Run) -> LanguageCode:
    """The source of a run's adapter; empty for a base model."""
    return run_key(run).source


def check_comparable(runs: Sequence[Run], allow_versions: bool = False) -> None:
    """Check that runs differ only in what a comparison allows.

    ComparisonError otherwise; it names the tag, its values and the runs that have them. Libraries
    may differ in minor versions, with `allow_versions` in major ones too; that is logged.
    """
    for difference in key_differences(runs):
        raise ComparisonError(
            f"the runs{difference.where} cannot be compared: {difference.name} is "
            f"{_values(difference)}. {_advice(difference.runs.values())}"
        )
    _check_items(runs)
    _check_adapters(runs)
    _check_libraries(runs, allow_versions)


def run_ids(runs: Iterable[Run]) -> str:
    """The first few ids of runs."""
    return first_few(run.info.run_id for run in runs)


def differing_libraries(runs: Sequence[Run]) -> str:
    """Libraries of which runs have different versions, with the runs; empty if there are none."""
    return "; ".join(
        f"{difference.name} is {_values(difference)}" for difference in library_differences(runs)
    )


def _check_libraries(runs: Sequence[Run], allow_versions: bool) -> None:
    for difference in library_differences(runs):
        if is_major(difference.runs) and not allow_versions:
            raise ComparisonError(
                f"the runs cannot be compared: the version of {difference.name} is "
                f"{_values(difference)}; set allow_versions=true to compare them nevertheless. "
                f"{_advice(difference.runs.values())}"
            )
    if differing := differing_libraries(runs):
        logger.warning(f"the runs have other versions of libraries: {differing}")


def _check_items(runs: Sequence[Run]) -> None:
    """One digest of items per language; runs without digests are compared item by item later."""
    if differing := item_differences(runs):
        first = differing[0]
        digests = "; ".join(
            f"{digest} in {run_ids(having)}" for digest, having in first.runs.items()
        )
        raise ComparisonError(
            f"the runs cannot be compared: their items differ in "
            f"{first_few(difference.name for difference in differing)} (digest of {first.name}: "
            f"{digests}). {_advice(first.runs.values())}"
        )


def _check_adapters(runs: Sequence[Run]) -> None:
    """One adapter per model, condition, source and seed."""
    by_key: dict[RunKey, dict[str | None, Run]] = {}
    names = model_names(runs)
    for run in runs:
        by_key.setdefault(run_key(run, names), {})[tag(run, "adapter")] = run
    for key, by_adapter in by_key.items():
        if len(by_adapter) > 1:
            raise ComparisonError(
                f"runs {run_ids(by_adapter.values())} have different adapters but are all {key}. "
                f"{_advice([[run] for run in by_adapter.values()])}"
            )


def _advice(groups: Iterable[Sequence[Run]]) -> str:
    """How to leave out the smallest group of runs, or to choose which runs are compared."""
    # Of several that are as small, the one with the oldest run: a newer run was meant to count.
    groups = list(groups)
    fewest = min(groups, key=lambda runs: (len(runs), max(run.info.start_time for run in runs)))
    ids = ",".join(run.info.run_id for run in fewest)
    studies = sorted({study for runs in groups for run in runs if (study := tag(run, "study"))})
    one = f"name one study, such as study={studies[0]}" if len(studies) > 1 else "name a `study`"
    return (
        f"Leave out what does not belong, such as without={ids}, {one}, or choose with `runs` or "
        f"`tags`."
    )


def _values(difference: Difference) -> str:
    return "; ".join(f"{value!r} in {run_ids(having)}" for value, having in difference.runs.items())
