"""Searching runs: MLflow's database filters, and every page is read.

MLflow answers with whole runs, with all their metrics and parameters. A run of 200 metrics takes
about 4 ms, most of it to build the objects, so a search must say which runs it wants.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import mlflow
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException

from isogloss.tracking.server import is_missing

FINISHED = "FINISHED"
PAGE = 1000  # runs; a server sends some 20 MB for them if each has 200 metrics
IDS = 200  # run ids in one filter; MLflow's parser refuses filters of several thousand words
UNQUOTABLE = str.maketrans(dict.fromkeys("'\"\\", "_"))


def find_runs(
    experiment_ids: Sequence[str],
    tags: Mapping[str, str],
    contained: Mapping[str, str] | None = None,
    run_ids: Iterable[str] | None = None,
    status: str | None = None,
) -> list[Run]:
    """The runs of some experiments that are not deleted and have these tags, newest first.

    `tags` are equal to what is given, any text; `contained` are parts of tags, and a superset: the
    caller checks how they are contained. `run_ids` are the only runs looked at. `status` is one of
    MLflow's.
    """
    clauses = [equal(f"tags.`{name}`", value) for name, value in tags.items()]
    clauses += [like(f"tags.`{name}`", f"%{value}%") for name, value in (contained or {}).items()]
    if status is not None:
        clauses.append(equal("attributes.status", status))
    found = (
        run
        for chosen in _id_clauses(run_ids)
        for run in _pages(experiment_ids, " AND ".join([*chosen, *clauses]))
    )
    return newest_first(run for run in found if tags.items() <= run.data.tags.items())


def existing_run(run_id: str) -> Run | None:
    """A run by id; None if MLflow has none such, or no longer."""
    try:
        return mlflow.get_run(run_id)
    except MlflowException as error:
        if not is_missing(error):
            raise
        return None


def newest_first(runs: Iterable[Run]) -> list[Run]:
    """Distinct runs in MLflow's own order: by start, the newest first, then by id."""
    # Pages are counted from the newest run, so a run is on two if others are logged meanwhile.
    distinct = {run.info.run_id: run for run in runs}.values()
    return sorted(distinct, key=lambda run: (-run.info.start_time, run.info.run_id))


def experiments() -> list[Experiment]:
    """Every experiment that is not deleted."""
    client = mlflow.MlflowClient()
    found: list[Experiment] = []
    token = None
    while True:
        page = client.search_experiments(page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def equal(field: str, value: str) -> str:
    """The clause `field = value` of an MLflow filter, whatever the value.

    These filters have no escape: where none of both quotes can be used, a pattern that lets more
    through stands for the value, and whoever searches compares what is found.
    """
    quote = next((quote for quote in "'\"" if quote not in value), None)
    if quote is None or "\\" in value:
        return like(field, value)
    return f"{field} = {quote}{value}{quote}"


def like(field: str, pattern: str) -> str:
    """The clause `field LIKE pattern`, with any character where a filter can have none of its own.

    The pattern's own % and _ stand for any text and any character.
    """
    return f"{field} LIKE '{pattern.translate(UNQUOTABLE)}'"


def _id_clauses(run_ids: Iterable[str] | None) -> Iterator[list[str]]:
    """The clauses that choose runs by id; one without any if no ids are given."""
    if run_ids is None:
        yield []
        return
    ids = [run_id for run_id in dict.fromkeys(run_ids) if run_id.isalnum()]  # those of MLflow are
    for at in range(0, len(ids), IDS):
        listed = ", ".join(f"'{run_id}'" for run_id in ids[at : at + IDS])
        yield [f"attributes.run_id IN ({listed})"]


def _pages(experiment_ids: Sequence[str], filter_string: str) -> Iterator[Run]:
    """All runs of a filter, newest first, page by page."""
    client = mlflow.MlflowClient()
    token = None
    while experiment_ids:
        page = client.search_runs(
            list(experiment_ids), filter_string, max_results=PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return
