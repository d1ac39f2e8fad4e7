"""The evaluate runs of a comparison: grouped by what they measured, and their predictions read."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
import pandas as pd
from mlflow.entities import Run

from isogloss import tracking
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import COLUMNS, RunKey
from isogloss.config import CompareConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.formatting import did_you_mean, natural_order
from isogloss.languages import source_languages
from isogloss.logs import progress_bar
from isogloss.stages.comparable_runs import check_comparable, of_sources, run_key
from isogloss.stages.search_runs import experiments_of, search_runs
from isogloss.tracking import tag
from isogloss.tracking.comparability import model_name, model_names
from isogloss.tracking.search import FINISHED
from isogloss.tracking.similar import searched
from isogloss.types import Condition, LanguageCode

logger = logging.getLogger(__name__)

DOWNLOADS = 8
UNCONDITIONAL = "unconditional_logprobs"  # shown with the items
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
    """The finished runs that a configuration selects (`search_runs`), grouped (`group_runs`).

    With `sources`, runs of adapters of other sources are left out. ConfigError for an unknown
    source, ComparisonError if there are no runs, or none of one of the `sources`.
    """
    for source in (config.source, *(config.sources or ())):
        if source is not None:
            source_languages(source)
    found = search_runs(config)
    runs, omissions = of_sources(found.runs, config.sources), found.omissions
    finished = [run for run in runs if run.info.status == FINISHED]
    unfinished = [run for run in runs if run.info.status != FINISHED]
    if not finished:
        where = f"study {', '.join(map(repr, config.study))}" if config.study else "the experiment"
        tags = f" with tags {', '.join(config.tags)}" if config.tags else ""
        waiting = f" ({len(unfinished)} unfinished)" if unfinished else ""
        ending = "."
        if not config.runs:
            ending = f"; {searched(experiments_of(config.experiment), config.study or ())}"
        raise ComparisonError(f"{where} has no finished evaluate run{tags}{waiting}{ending}")
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
        table = tracking.read_predictions(run.info.run_id, (*COLUMNS, UNCONDITIONAL))
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
                "seed each, delete the wrong run, or leave it out with without=ID."
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
                f"source {config.source!r} is not one of `sources` ({', '.join(config.sources)})"
                f"{did_you_mean(config.source, config.sources, cutoff=0.8)}"
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
