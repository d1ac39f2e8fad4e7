"""Pilots of plans: what a compare run measured."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from mlflow.entities import Run

from isogloss.errors import ComparisonError
from isogloss.languages import group, is_mixed
from isogloss.report.power import Pilot
from isogloss.stages.plan_crossed import CrossedPilot
from isogloss.tracking import RunKind, metrics_of, tag
from isogloss.tracking.search import existing_run
from isogloss.tracking.similar import similar_runs
from isogloss.tracking.tags import read_parts
from isogloss.types import Group, LanguageCode


def read_pilot(run_id: str) -> Pilot:
    """Measurements of a compare run; ComparisonError if it is not one or lacks any of them."""
    run = existing_run(run_id)
    if run is None:
        raise ComparisonError(
            f"like: {run_id!r} is not the id of a run{similar_runs(run_id, RunKind.COMPARE)}"
        )
    metrics = run.data.metrics
    if tag(run, "kind") != RunKind.COMPARE or run.info.status != "FINISHED":
        raise ComparisonError(f"like: run {run_id!r} is not a finished compare run.")
    needed = ("contrast/spread", "contrast/related_languages", "contrast/control_languages")
    if missing := [name for name in needed if name not in metrics]:
        raise ComparisonError(
            f"like: compare run {run_id!r} has no metric {missing[0]!r}; repeat the comparison "
            f"with this version of isogloss."
        )
    if not metrics["contrast/spread"] > 0:
        raise ComparisonError(f"like: in compare run {run_id!r} gains do not vary.")
    errors = [metrics[name] for name in _in_contrast(run, "gain_se/", metrics)]
    items = _items_per_language(run)
    if not errors or not items:
        lacking = "standard errors of gains" if items else "numbers of items"
        raise ComparisonError(f"like: compare run {run_id!r} and its runs have no {lacking}.")
    return Pilot(
        run_id=run_id,
        spread=metrics["contrast/spread"],
        item_error=math.sqrt(float(np.mean(np.square(errors)))),
        related=round(metrics["contrast/related_languages"]),
        control=round(metrics["contrast/control_languages"]),
        items=items,
        seeds=max(1, round(metrics.get("contrast/seeds", 1))),
    )


def read_crossed_pilot(run_id: str) -> CrossedPilot:
    """Accuracies of the adapters that a compare run compared.

    ComparisonError if it is not a finished compare run, or has adapters of one source only.
    """
    compared = existing_run(run_id)
    if (
        compared is None
        or tag(compared, "kind") != RunKind.COMPARE
        or compared.info.status != "FINISHED"
    ):
        ending = similar_runs(run_id, RunKind.COMPARE) if compared is None else "."
        raise ComparisonError(f"like: {run_id!r} is not the id of a finished compare run{ending}")
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    seeds: dict[str, set[str]] = defaultdict(set)
    counts = []
    for run in _cells(compared):
        source = tag(run, "source")
        if tag(run, "condition") != "tuned" or source is None or is_mixed(source):
            continue
        seeds[source].add(tag(run, "seed") or "")
        metrics = metrics_of(run)
        for code, accuracy in _accuracies(metrics):
            values[source, code].append(accuracy)
            counts.append(metrics.get(f"n/{code}", 0))
    if len(seeds) < 2:
        raise ComparisonError(
            f"like: compare run {run_id!r} has adapters of {len(seeds)} source languages; the "
            f"spread of a crossed design needs several."
        )
    sources, targets = sorted(seeds), sorted({code for _, code in values})
    accuracy_ST = np.array(
        [
            [
                np.mean(values[source, code])
                if values[source, code] and group(code, source) in (Group.RELATED, Group.CONTROL)
                else np.nan
                for code in targets
            ]
            for source in sources
        ]
    )
    return CrossedPilot(
        run_id=run_id,
        accuracy=accuracy_ST,
        sources=tuple(sources),
        targets=tuple(targets),
        items=max(1, round(float(np.mean(counts)))),
        seeds=min(map(len, seeds.values())),
    )


def _in_contrast(compared: Run, prefix: str, names: Iterable[str]) -> list[str]:
    """Names that consist of the prefix and the code of a related or control language."""
    source = compared.data.tags["isogloss.source"]
    branch = compared.data.params.get("branch", "auto")
    return [
        name
        for name in names
        if name.startswith(prefix)
        and name != f"{prefix}mean"
        and group(name.removeprefix(prefix), source, None if branch == "auto" else branch)
        in (Group.RELATED, Group.CONTROL)
    ]


def _items_per_language(compared: Run) -> int:
    """Mean number of items of the languages compared; 0 if the evaluate runs do not record it."""
    counts = []
    for run in _cells(compared):
        metrics = metrics_of(run)
        counts += [
            metrics[name]
            for name in _in_contrast(compared, "n/", metrics)
            if f"gain/{name.removeprefix('n/')}" in compared.data.metrics
        ]
    return round(float(np.mean(counts))) if counts else 0


def _accuracies(metrics: Mapping[str, float]) -> Iterator[tuple[LanguageCode, float]]:
    for name, value in metrics.items():
        if name.startswith("accuracy/") and name != "accuracy/mean":
            yield name.removeprefix("accuracy/"), value


def _cells(compared: Run) -> Iterator[Run]:
    """The evaluate runs of a compare run, but those that were permanently deleted since."""
    return filter(None, map(existing_run, read_parts(compared, "cells")))
