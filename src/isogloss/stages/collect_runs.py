"""Pulling: which evaluate runs are judged, and that they may be judged together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import mlflow
import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss import tracking
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import COLUMNS, RunKey, first_few
from isogloss.config import CompareConfig
from isogloss.errors import ComparisonError, ConfigError
from isogloss.logs import progress_bar
from isogloss.types import Condition

# What runs have to agree in: all of them, those of a model, those of a model and condition.
EVERYWHERE = ("task", "format", "normalisation", "prompt_version", "prompt_language")
OF_A_MODEL = ("revision", "dtype", "attention", "chat", "recipe")
OF_A_CONDITION = ("max_new_tokens",)
DOWNLOADS = 8


@dataclass(frozen=True)
class Pulled:
    """Runs by cell, newest first: of a language that several have, the newest counts.

    `omissions` are runs that were found and not used.
    """

    cells: Mapping[RunKey, tuple[Run, ...]]
    omissions: tuple[Omission, ...]

    @property
    def runs(self) -> list[Run]:
        """Every run, cell by cell."""
        return [run for runs in self.cells.values() for run in runs]


def pull(config: CompareConfig) -> Pulled:
    """Find the evaluate runs that a configuration asks for; see `arrange`.

    Those named by `runs`; else those of the `study`, of `experiment` (this one by default), with
    `tags`. A study that was run as a whole has what its newest run of each model, source and seeds
    made or reused. ComparisonError if there are none.
    """
    if config.runs:
        return arrange([_evaluate_run(run_id) for run_id in config.runs])
    found, unfinished = _search(config)
    if not found:
        where = f"study {', '.join(map(repr, config.study))}" if config.study else "the experiment"
        tags = f" with tags {config.tags}" if config.tags else ""
        waiting = f" ({len(unfinished)} are not finished)" if unfinished else ""
        raise ComparisonError(f"{where} has no finished evaluate run{tags}{waiting}.")
    omissions = [
        Omission(
            OmissionReason.UNFINISHED_RUN,
            run=cell_of(run),
            run_id=run.info.run_id,
            status=run.info.status.lower(),
        )
        for run in unfinished
    ]
    return arrange(found, omissions)


def arrange(runs: Iterable[Run], omissions: Iterable[Omission] = ()) -> Pulled:
    """Put finished evaluate runs into cells.

    ComparisonError if they differ in what may not differ; it names the tag, its values and runs.
    """
    newest = sorted(runs, key=lambda run: -int(run.info.start_time))
    by_id = {run.info.run_id: run for run in newest}
    kept = list(by_id.values())
    for names, scope in (
        (EVERYWHERE, lambda run: ""),
        (OF_A_MODEL, lambda run: f" of {tag(run, 'model')}"),
        (OF_A_CONDITION, lambda run: f" of {tag(run, 'model')} in {tag(run, 'condition')}"),
    ):
        for name in names:
            _agree(kept, name, scope)
    _same_data(kept)
    cells: dict[RunKey, list[Run]] = {}
    for run in kept:
        cells.setdefault(cell_of(run), []).append(run)
    for cell, members in cells.items():
        adapters = {tag(run, "adapter"): run for run in members}
        if len(adapters) > 1:
            raise ComparisonError(
                f"runs {_ids(adapters.values())} are of different adapters, and nothing tells "
                f"them apart: all are {cell}. Choose by `runs` or `tags`."
            )
    ordered = {cell: tuple(cells[cell]) for cell in sorted(cells)}
    return Pulled(ordered, tuple(omissions))


def read(pulled: Pulled) -> dict[RunKey, pd.DataFrame]:
    """The predictions of each cell; ComparisonError if a run has none."""
    runs = pulled.runs
    progress = progress_bar("reading predictions", "run", total=len(runs))

    def fetch(run: Run) -> pd.DataFrame:
        table = tracking.read_predictions(run.info.run_id, COLUMNS)
        progress.update()
        return table

    with ThreadPoolExecutor(min(DOWNLOADS, len(runs))) as pool:
        tables = dict(zip((run.info.run_id for run in runs), pool.map(fetch, runs), strict=True))
    progress.close()
    return {
        cell: _merged([tables[run.info.run_id] for run in members])
        for cell, members in pulled.cells.items()
    }


def source_of(pulled: Pulled, config: CompareConfig) -> str:
    """The language whose kin are judged; ComparisonError if the runs do not say which."""
    if config.source:
        return config.source
    tuned = {cell.source for cell in pulled.cells if cell.source}
    sources = sorted(tuned or {source for run in pulled.runs if (source := tag(run, "source"))})
    if len(sources) != 1:
        raise ComparisonError(
            f"the runs are of {len(sources)} sources ({', '.join(sources)}); choose with source= "
            f"whose kin are to be judged, the others then serve as control sources."
        )
    return sources[0]


def cell_of(run: Run) -> RunKey:
    """The cell that a run belongs to; adapters without a known seed are told by their digest."""
    model = tag(run, "model") or "unknown"
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
    return RunKey(
        model, condition, tag(run, "source") or "", seed or (tag(run, "adapter") or "")[:8]
    )


def tag(run: Run, name: str) -> str | None:
    """A tag of the contract, without its prefix."""
    value: str | None = run.data.tags.get(f"isogloss.{name}")
    return value


def _agree(runs: Sequence[Run], name: str, scope: Callable[[Run], str]) -> None:
    """Refuse different values of a tag; runs that do not have it say nothing."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        if (value := tag(run, name)) is not None:
            found.setdefault(scope(run), {}).setdefault(value, []).append(run)
    for where, values in found.items():
        if len(values) > 1:
            listed = "; ".join(f"{value!r} in {_ids(having)}" for value, having in values.items())
            raise ComparisonError(
                f"the runs{where} may not be judged together: {name} is {listed}. Choose by "
                f"`runs`, `study` or `tags`."
            )


def _same_data(runs: Sequence[Run]) -> None:
    """Refuse different items under one language; runs that do not say are checked item by item."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        for pair in (tag(run, "language_digests") or "").split():
            code, digest = pair.split(":")
            found.setdefault(code, {}).setdefault(digest, []).append(run)
    differ = [code for code, digests in found.items() if len(digests) > 1]
    if differ:
        listed = "; ".join(
            f"{digest} in {_ids(having)}" for digest, having in found[differ[0]].items()
        )
        raise ComparisonError(
            f"the runs may not be judged together: their items are different in "
            f"{first_few(differ)} (digest of {differ[0]}: {listed}). Choose by `runs`, `study` or "
            f"`tags`."
        )


def _ids(runs: Iterable[Run]) -> str:
    return first_few(run.info.run_id for run in runs)


def _merged(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of one cell, newest first: each language from the first that has it."""
    parts, seen = [tables[0]], set(tables[0]["language"].unique())
    for table in tables[1:]:
        new = set(table["language"].unique()) - seen
        if new:
            parts.append(table[table["language"].isin(new)])
            seen |= new
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _evaluate_run(run_id: str) -> Run:
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        raise ComparisonError(f"{run_id!r} is not the id of a run.") from error
    if tag(run, "kind") != "evaluate":
        hint = f", but a {tag(run, 'kind')} run" if tag(run, "kind") else ""
        raise ComparisonError(f"run {run_id!r} is not an evaluate run{hint}.")
    if run.info.status != "FINISHED":
        raise ComparisonError(f"run {run_id!r} is not finished: it is {run.info.status.lower()}.")
    return run


def _search(config: CompareConfig) -> tuple[list[Run], list[Run]]:
    """Finished evaluate runs that are asked for, and unfinished ones."""
    wanted = _tags(config.tags)
    where = _experiments(config.experiment)
    evaluated = [
        run
        for run in _of_kind(where, "evaluate")
        if all(run.data.tags.get(key) == value for key, value in wanted.items())
    ]
    if config.study:
        cells = _study_cells(where, config.study)
        whole = {study for study, _ in cells}
        ids = {run_id for _, run_ids in cells for run_id in run_ids}
        by_hand = set(config.study) - whole
        evaluated = [
            run
            for run in evaluated
            if run.info.run_id in ids or by_hand & set(tracking.studies_of(run))
        ]
    evaluated = [run for run in evaluated if tag(run, "fingerprint")]
    finished = [run for run in evaluated if run.info.status == "FINISHED"]
    return finished, [run for run in evaluated if run.info.status != "FINISHED"]


def _study_cells(where: list[str], studies: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The evaluate runs of each study's newest run of a model, source and seeds."""
    newest: dict[tuple[str | None, ...], tuple[str, list[str]]] = {}
    for run in _of_kind(where, "study"):  # newest first
        name = tag(run, "study")
        if run.info.status == "FINISHED" and name is not None and name in studies:
            key = (name, tag(run, "model"), tag(run, "source"), tag(run, "seeds"))
            newest.setdefault(key, (name, (tag(run, "cells") or "").split()))
    return list(newest.values())


def _of_kind(where: list[str], kind: str) -> list[Run]:
    found: list[Run] = mlflow.search_runs(
        where, filter_string=f"tags.`isogloss.kind` = '{kind}'", output_format="list"
    )
    return found


def _experiments(names: Sequence[str] | None) -> list[str]:
    if names is None:
        return [tracking.choose_experiment(None)]
    ids = []
    for name in names:
        experiment = mlflow.get_experiment_by_name(name)
        if experiment is None:
            raise ComparisonError(f"there is no experiment {name!r}.")
        ids.append(str(experiment.experiment_id))
    return ids


def _tags(text: str | None) -> dict[str, str]:
    wanted = {}
    for pair in text.split(",") if text else ():
        key, found, value = pair.partition("=")
        if not found or not key.strip():
            raise ConfigError(f"tags: expected NAME=VALUE, separated by commas, but got {pair!r}.")
        wanted[key.strip()] = value.strip()
    return wanted
