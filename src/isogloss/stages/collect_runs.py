"""Which evaluate runs a comparison uses: found in MLflow, grouped, and their predictions read."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from isogloss import tracking
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import COLUMNS, RunKey
from isogloss.config import CompareConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.formatting import natural_order
from isogloss.logs import progress_bar
from isogloss.stages.comparable_runs import check_comparable, of_sources, run_key
from isogloss.tracking import RunKind, tag
from isogloss.tracking.comparability import model_name, model_names
from isogloss.tracking.server import is_missing
from isogloss.tracking.tags import read_parts
from isogloss.types import Condition, LanguageCode

logger = logging.getLogger(__name__)

DOWNLOADS = 8
FINISHED = "FINISHED"
SCORES = ("gold_logprob", "choice_logprobs")


@dataclass(frozen=True)
class CollectedRuns:
    """Comparable runs by key, the newest first: if several have a language, the newest counts.

    `omissions` are runs that were found but not used, `first_source` is the source that the study
    names first; empty without a study, or where several studies name different ones.
    """

    by_key: Mapping[RunKey, tuple[Run, ...]]
    omissions: tuple[Omission, ...] = ()
    first_source: LanguageCode = ""

    @property
    def runs(self) -> list[Run]:
        """Every run, key by key."""
        return [run for runs in self.by_key.values() for run in runs]


def collect_runs(config: CompareConfig) -> CollectedRuns:
    """Find the evaluate runs that a configuration selects; see `group_runs`.

    Those named by `runs`, or else those of the experiments and studies that have the `tags`. Of a
    study, the newest study run of each model, source and seeds decides which evaluate runs belong
    to it. With `sources`, adapters of other sources are not selected. ComparisonError if there are
    no runs, or none of one of the `sources`.
    """
    if config.runs:
        chosen = of_sources([_evaluate_run(run_id) for run_id in config.runs], config.sources)
        return group_runs(chosen, allow_versions=config.allow_versions)
    found = _search(config)
    runs, omissions = of_sources(found.runs, config.sources), found.omissions
    finished = [run for run in runs if run.info.status == FINISHED]
    unfinished = [run for run in runs if run.info.status != FINISHED]
    if not finished:
        where = f"study {', '.join(map(repr, config.study))}" if config.study else "the experiment"
        tags = f" with tags {', '.join(config.tags)}" if config.tags else ""
        waiting = f" ({len(unfinished)} unfinished)" if unfinished else ""
        raise ComparisonError(f"{where} has no finished evaluate run{tags}{waiting}.")
    omissions = [*omissions, *map(_unfinished, unfinished)]
    collected = group_runs(finished, omissions, found.labels, config.allow_versions)
    return replace(collected, first_source=found.first_source)


def group_runs(
    runs: Iterable[Run],
    omissions: Iterable[Omission] = (),
    labels: Mapping[str, str] | None = None,
    allow_versions: bool = False,
) -> CollectedRuns:
    """Group finished evaluate runs by what they measured.

    `labels` are the names that tables and figures show for models, by name or revision.
    ComparisonError if the runs cannot be compared; see `check_comparable`.
    """
    newest_first = sorted(runs, key=lambda run: -int(run.info.start_time))
    # Runs with one fingerprint have one result; an older one may have lost its predictions.
    newest: dict[str, Run] = {}
    for run in newest_first:
        newest.setdefault(tag(run, "fingerprint") or run.info.run_id, run)
    distinct = list(newest.values())
    check_comparable(distinct, allow_versions)
    by_key: dict[RunKey, list[Run]] = {}
    names = _shown_names(distinct, labels or {})
    for run in distinct:
        by_key.setdefault(run_key(run, names), []).append(run)
    in_order = sorted(by_key, key=lambda key: (natural_order(key.model), key))
    return CollectedRuns({key: tuple(by_key[key]) for key in in_order}, tuple(omissions))


def _shown_names(runs: Sequence[Run], labels: Mapping[str, str]) -> dict[str, str]:
    """The name that is shown for each name of a model; no two models have the same one.

    A label that is also the label or the name of another model is not used.
    """
    names = model_names(runs)
    labelled = {
        names[model_name(run)]: labels[given]
        for run in reversed(runs)
        for given in (model_name(run), tag(run, "revision") or "")
        if given in labels
    }
    shown = [labelled.get(model, model) for model in dict.fromkeys(names.values())]
    ambiguous = {label for label in shown if shown.count(label) > 1}
    return {
        name: model if labelled.get(model, model) in ambiguous else labelled.get(model, model)
        for name, model in names.items()
    }


def read_tables(collected: CollectedRuns) -> dict[RunKey, pd.DataFrame]:
    """The predictions of each key; ComparisonError if a run has none."""
    runs = collected.runs
    progress = progress_bar("reading predictions", "run", total=len(runs))

    def read(run: Run) -> pd.DataFrame:
        table = tracking.read_predictions(run.info.run_id, COLUMNS)
        progress.update()
        return table

    with ThreadPoolExecutor(min(DOWNLOADS, len(runs))) as pool:
        tables = dict(zip((run.info.run_id for run in runs), pool.map(read, runs), strict=True))
    progress.close()
    for key, members in collected.by_key.items():
        _check_imports(key, [run for run in members if tag(run, "imported")], tables)
    merged = {
        key: _merge([tables[run.info.run_id] for run in members])
        for key, members in collected.by_key.items()
    }
    _check_effect(merged)
    return merged


def _check_imports(key: RunKey, runs: Sequence[Run], tables: Mapping[str, pd.DataFrame]) -> None:
    """Raise ComparisonError for two imports with other answers to one item.

    Nothing says whether one corrects the other, or they are replicates without a seed.
    """
    for newer, older in combinations(runs, 2):
        left, right = (tables[run.info.run_id] for run in (newer, older))
        both = left.merge(right, on=["language", "item_id"], suffixes=("", "_older"))
        differing = both[both["correct"] != both["correct_older"]]
        if len(differing):
            raise ComparisonError(
                f"the imported runs {newer.info.run_id} and {older.info.run_id} are both {key}, "
                f"but {len(differing)} of {len(both)} answers differ; import replicates with a "
                "seed each, delete the wrong run, or choose runs with `runs`, `study` or `tags`."
            )


def _check_effect(tables: Mapping[RunKey, pd.DataFrame]) -> None:
    """Raise ComparisonError for an adapter that changes no log-likelihood of its base model.

    It was not applied, or one file of results was imported under two conditions. Without
    log-likelihoods, the same answers throughout are logged: few items may agree by chance.
    """
    for (key, table), (other, base) in product(tables.items(), repeat=2):
        of_base = Condition.of(tuned=False, reasoning=key.condition.reasoning)
        if not key.condition.tuned or (other.model, other.condition) != (key.model, of_base):
            continue
        both = base.merge(table, on=["language", "item_id"], suffixes=("_base", ""))
        if not all(set(SCORES) <= set(rows) for rows in (base, table)):
            if both["correct"].nunique() > 1 and both["correct"].equals(both["correct_base"]):
                logger.warning(
                    f"{key} is right and wrong in the same items as the base model, in all "
                    f"{len(both)}: was its adapter applied, are these the same results?"
                )
            continue
        if len(both) and all(
            _same(before, after)
            for name in SCORES
            for before, after in zip(both[f"{name}_base"], both[name], strict=True)
        ):
            raise ComparisonError(
                f"{key} has the same log-likelihoods as the base model in all {len(both)} items: "
                "its adapter was not applied, or the same results were imported twice."
            )


def _same(before: object, after: object) -> bool:
    return np.array_equal(np.asarray(before, dtype=float), np.asarray(after, dtype=float))


def source_language(collected: CollectedRuns, config: CompareConfig) -> LanguageCode:
    """The source of the single-source contrast; ComparisonError if nothing says which of several.

    The configuration's, the only one, the first of `sources`, or the first of the study.
    """
    if config.source:
        if config.sources and config.source not in config.sources:
            raise ConfigError(
                f"source {config.source!r} is not one of `sources` ({', '.join(config.sources)})."
            )
        return config.source
    if config.sources:
        return config.sources[0]
    tuned = {key.source for key in collected.by_key if key.source}
    sources = sorted(tuned or {source for run in collected.runs if (source := tag(run, "source"))})
    if not sources:
        raise ComparisonError(
            "none of the runs has an adapter, and so none has a source language; choose with "
            "`source` the language whose relatives are compared with others."
        )
    if len(sources) > 1 and collected.first_source in sources:
        return collected.first_source
    if len(sources) > 1:
        raise ComparisonError(
            f"the runs have {len(sources)} sources ({', '.join(sources)}); choose one with "
            f"`source`, the others then serve as control sources."
        )
    return sources[0]


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


def _unfinished(run: Run) -> Omission:
    return Omission(
        OmissionReason.UNFINISHED_RUN,
        run=run_key(run),
        run_id=run.info.run_id,
        status=run.info.status.lower(),
    )


def _merge(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of one key, newest first: each language from the first table that has it."""
    parts, languages = [tables[0]], set(tables[0]["language"].unique())
    for table in tables[1:]:
        new = set(table["language"].unique()) - languages
        if new:
            parts.append(table[table["language"].isin(new)])
            languages |= new
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _evaluate_run(run_id: str) -> Run:
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise ComparisonError(f"{run_id!r} is not the id of a run.") from error
    kind = tag(run, "kind")
    if kind != RunKind.EVALUATE:
        but = f" but a {kind} run" if kind else ""
        raise ComparisonError(f"run {run_id!r} is not an evaluate run{but}.")
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise ComparisonError(f"run {run_id!r} is deleted; restore it, or leave it out.")
    if run.info.status != FINISHED:
        raise ComparisonError(f"run {run_id!r} is not finished: it is {run.info.status.lower()}.")
    return run


class _Found(NamedTuple):
    """Evaluate runs, labels of their models, what their studies lack, and their first source."""

    runs: list[Run]
    labels: Mapping[str, str] = {}
    omissions: Sequence[Omission] = ()
    first_source: LanguageCode = ""


def _search(config: CompareConfig) -> _Found:
    """Evaluate runs of the experiments, with the tags, of the studies."""
    tags = parse_tags(config.tags)
    experiment_ids = _experiment_ids(config.experiment)
    evaluated = _runs_of_kind(experiment_ids, RunKind.EVALUATE)
    runs = [
        run
        for run in evaluated
        if tag(run, "fingerprint")
        and all(run.data.tags.get(name) == value for name, value in tags.items())
    ]
    if not config.study:
        return _Found(runs)
    study_runs, older = _study_runs(experiment_ids, config.study)
    ids = {run_id for run in study_runs for run_id in read_parts(run, "cells")}
    # Evaluate runs may name a study that has no run of its own.
    unlisted = set(config.study) - {tag(run, "study") for run in study_runs}
    selected = [
        run for run in runs if run.info.run_id in ids or unlisted & set(tracking.studies_of(run))
    ]
    if len(config.study) > 1:
        _check_each_study(config.study, study_runs, selected)
    existing = {run.info.run_id for run in evaluated}
    omissions = [*older, *_missing_cells(study_runs, existing)]
    first_sources = {tag(run, "source") or "" for run in study_runs}
    first_source = first_sources.pop() if len(first_sources) == 1 else ""
    return _Found(selected, _labels(study_runs), omissions, first_source)


def _check_each_study(
    studies: Sequence[str], study_runs: Sequence[Run], selected: Sequence[Run]
) -> None:
    """Raise ComparisonError for a study that contributes no run."""
    for study in studies:
        own = [run for run in study_runs if tag(run, "study") == study]
        ids = {run_id for run in own for run_id in read_parts(run, "cells")}
        if not any(run.info.run_id in ids or study in tracking.studies_of(run) for run in selected):
            raise ComparisonError(
                f"study {study!r} has no finished evaluate run; a name that contains a comma is "
                'written as a JSON list, ["a, b"].'
            )


def _labels(study_runs: Iterable[Run]) -> dict[str, str]:
    """Labels by model."""
    labels: dict[str, str] = {}
    for run in study_runs:
        labels |= json.loads(tag(run, "labels") or "{}")
    return labels


def _study_runs(
    experiment_ids: list[str], studies: Sequence[str]
) -> tuple[list[Run], list[Omission]]:
    """The newest finished study run of each study, model, source and seeds.

    The omissions are newer runs of the same that are not finished.
    """
    newest: dict[tuple[str | None, ...], Run] = {}
    unfinished: dict[tuple[str | None, ...], list[Run]] = {}
    for run in _runs_of_kind(experiment_ids, RunKind.STUDY):  # newest first
        if tag(run, "study") not in studies:
            continue
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


def _runs_of_kind(experiment_ids: list[str], kind: RunKind) -> list[Run]:
    runs: list[Run] = mlflow.search_runs(
        experiment_ids, filter_string=f"tags.`isogloss.kind` = '{kind}'", output_format="list"
    )
    return runs


def _experiment_ids(names: Sequence[str] | None) -> list[str]:
    if names is None:
        return [tracking.choose_experiment(None)]
    ids = []
    for name in names:
        experiment = mlflow.get_experiment_by_name(name)
        if experiment is None:
            raise ComparisonError(f"there is no experiment {name!r}.")
        ids.append(str(experiment.experiment_id))
    return ids
