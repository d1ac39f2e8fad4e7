"""Which evaluate runs of MLflow a configuration selects, by id or by study, experiment and tags."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import mlflow
from mlflow.entities import LifecycleStage, Run

from isogloss import tracking
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.config import CompareConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.stages.comparable_runs import run_key
from isogloss.tracking import RunKind, tag
from isogloss.tracking.experiments import searched_with
from isogloss.tracking.search import FINISHED, existing_run, find_runs, newest_first
from isogloss.tracking.similar import searched, similar_experiments, similar_runs
from isogloss.tracking.tags import prefixed, read_parts
from isogloss.types import LanguageCode


class FoundRuns(NamedTuple):
    """Evaluate runs, the labels of their models, what their studies lack, and their first source.

    `first_source` is the source that the studies name first; empty if they name different ones.
    """

    runs: list[Run]
    labels: Mapping[str, str] = {}
    omissions: Sequence[Omission] = ()
    first_source: LanguageCode = ""


def search_runs(config: CompareConfig) -> FoundRuns:
    """The evaluate runs of `selected_runs`, but those that the configuration leaves out.

    ComparisonError also for a run to leave out that is not among them.
    """
    found = selected_runs(config)
    left_out = set(config.without or ())
    if unknown := sorted(left_out - {run.info.run_id for run in found.runs}):
        raise ComparisonError(
            f"without: {unknown[0]!r} is not the id of a run that would be compared"
            f"{similar_runs(unknown[0], RunKind.EVALUATE)}"
        )
    kept = [run for run in found.runs if run.info.run_id not in left_out]
    return found._replace(runs=kept)


def selected_runs(config: CompareConfig) -> FoundRuns:
    """The evaluate runs that a configuration selects, also those that are not finished.

    Those named by `runs`, or else those of the experiments and studies that have the `tags`;
    without a study, those of quick=true only where there are no others. Of a study, the newest
    study run of each model, source and seeds decides which evaluate runs belong to it.
    ComparisonError for an id, an experiment or one of several studies without such a run.
    """
    if config.runs:
        return FoundRuns([_evaluate_run(run_id) for run_id in config.runs])
    tags = parse_tags(config.tags)
    experiment_ids = experiments_of(config.experiment)
    if not config.study:
        runs = find_runs(experiment_ids, prefixed({"kind": RunKind.EVALUATE}) | tags)
        known = [run for run in runs if tag(run, "fingerprint")]
        full = [run for run in known if not tag(run, "quick")]
        return FoundRuns(full or known)
    study_runs, older = _study_runs(experiment_ids, config.study)
    ids = {run_id for run in study_runs for run_id in read_parts(run, "cells")}
    cells = find_runs(experiment_ids, prefixed({"kind": RunKind.EVALUATE}), run_ids=ids)
    # Evaluate runs may name a study that has no run of its own.
    unlisted = set(config.study) - {tag(run, "study") for run in study_runs}
    named = [run for study in unlisted for run in _runs_that_name(experiment_ids, study)]
    selected = [
        run
        for run in newest_first([*cells, *named])
        if tag(run, "fingerprint") and tags.items() <= run.data.tags.items()
    ]
    if len(config.study) > 1:
        _check_each_study(config.study, study_runs, selected, experiment_ids)
    existing = {run.info.run_id for run in cells}
    omissions = [*older, *_missing_cells(study_runs, existing)]
    if not config.sources:
        omissions += _lost_sources(study_runs, cells)
    first_sources = {tag(run, "source") or "" for run in study_runs}
    first_source = first_sources.pop() if len(first_sources) == 1 else ""
    return FoundRuns(selected, _labels(study_runs), omissions, first_source)


def parse_tags(pairs: Sequence[str] | None) -> dict[str, str]:
    """The tags of texts of the form NAME=VALUE; ConfigError if one has another form."""
    tags: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value):
            raise ConfigError(
                f"tags: expected NAME=VALUE, separated by commas, but got {pair.strip()!r}."
            )
        if name in tags:
            raise ConfigError(f"tags: {name!r} is given twice, as {tags[name]!r} and {value!r}.")
        tags[name] = value
    return tags


def _evaluate_run(run_id: str) -> Run:
    run = existing_run(run_id)
    if run is None:
        raise ComparisonError(
            f"{run_id!r} is not the id of a run{similar_runs(run_id, RunKind.EVALUATE)}"
        )
    kind = tag(run, "kind")
    if kind != RunKind.EVALUATE:
        but = f" but a {kind} run" if kind else ""
        raise ComparisonError(f"run {run_id!r} is not an evaluate run{but}.")
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise ComparisonError(f"run {run_id!r} is deleted; restore it, or leave it out.")
    if run.info.status != FINISHED:
        raise ComparisonError(f"run {run_id!r} is not finished: it is {run.info.status.lower()}.")
    return run


def _check_each_study(
    studies: Sequence[str],
    study_runs: Sequence[Run],
    selected: Sequence[Run],
    experiment_ids: Sequence[str],
) -> None:
    """Raise ComparisonError for a study that contributes no run."""
    for study in studies:
        own = [run for run in study_runs if tag(run, "study") == study]
        ids = {run_id for run in own for run_id in read_parts(run, "cells")}
        if not any(run.info.run_id in ids or study in tracking.studies_of(run) for run in selected):
            raise ComparisonError(
                f"study {study!r} has no finished evaluate run (a name that contains a comma is "
                f'written as a JSON list, ["a, b"]); {searched(experiment_ids, [study])}'
            )


def _labels(study_runs: Iterable[Run]) -> dict[str, str]:
    """Labels by model."""
    labels: dict[str, str] = {}
    for run in study_runs:
        labels |= json.loads(tag(run, "labels") or "{}")
    return labels


def _study_runs(
    experiment_ids: Sequence[str], studies: Sequence[str]
) -> tuple[list[Run], list[Omission]]:
    """The newest finished study run of each study, model, source and seeds.

    The omissions are newer runs of the same that are not finished.
    """
    newest: dict[tuple[str | None, ...], Run] = {}
    unfinished: dict[tuple[str | None, ...], list[Run]] = {}
    found = [
        run
        for study in studies
        for run in find_runs(experiment_ids, prefixed({"kind": RunKind.STUDY, "study": study}))
    ]
    for run in newest_first(found):
        parts = tuple(tag(run, name) for name in ("study", "model", "source", "seeds"))
        if parts in newest:
            continue
        if run.info.status == FINISHED:
            newest[parts] = run
        else:
            unfinished.setdefault(parts, []).append(run)
    omissions = [
        Omission(
            OmissionReason.STUDY_RUN,
            run_id=run.info.run_id,
            problem=f"of {tag(run, 'study')!r} is {run.info.status.lower()}; the older run "
            f"{older.info.run_id} is compared in its place",
        )
        for parts, older in newest.items()
        for run in unfinished.get(parts, ())
    ]
    return list(newest.values()), omissions


def _missing_cells(study_runs: Iterable[Run], existing: set[str]) -> list[Omission]:
    """Evaluations that failed in studies, or that are deleted."""
    omissions = []
    for run in study_runs:
        problems = []
        if failed := tag(run, "failed"):
            problems.append(f"has failed cells ({failed}), which are left out")
        problems += [
            f"has the evaluate run {run_id}, which is deleted and left out"
            for run_id in read_parts(run, "cells")
            if run_id not in existing
        ]
        omissions += [
            Omission(OmissionReason.STUDY_RUN, run_id=run.info.run_id, problem=problem)
            for problem in problems
        ]
    return omissions


def _lost_sources(study_runs: Iterable[Run], evaluated: Iterable[Run]) -> list[Omission]:
    """Sources of studies of which no adapter is `evaluated`."""
    known = {run_key(run).source for run in evaluated}
    listed = dict.fromkeys(
        source for run in study_runs for source in (tag(run, "sources") or "").split(",")
    )
    if lost := tuple(source for source in listed if source and source not in known):
        problem = "no adapter is evaluated in the study; the cells failed, or the runs are deleted."
        return [Omission(OmissionReason.LOST_SOURCES, sources=lost, problem=problem)]
    return []


def _runs_that_name(experiment_ids: Sequence[str], study: str) -> list[Run]:
    """The evaluate runs that a study made or reused."""
    kind = prefixed({"kind": RunKind.EVALUATE})
    made = find_runs(experiment_ids, kind | prefixed({"study": study}))
    reused = find_runs(experiment_ids, kind, contained=prefixed({"studies": study}))
    return [*made, *(run for run in reused if study in tracking.studies_of(run))]


def experiments_of(names: Sequence[str] | None) -> list[str]:
    """The ids of experiments, by default the current one; ComparisonError for one not there."""
    if names is None:
        return searched_with(tracking.choose_experiment(None))
    ids: list[str] = []
    for name in names:
        experiment = mlflow.get_experiment_by_name(name)
        if experiment is None:
            raise ComparisonError(f"there is no experiment {name!r}{similar_experiments(name)}")
        ids += searched_with(str(experiment.experiment_id))
    return list(dict.fromkeys(ids))
