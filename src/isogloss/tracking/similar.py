"""What a misspelled run, study or experiment may mean, and where a search has looked.

These are for error messages, so only the newest RECENT runs are read: with more a message would
take seconds.
"""

from collections.abc import Sequence

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from isogloss.formatting import closest, did_you_mean
from isogloss.tracking.search import equal, experiments
from isogloss.tracking.server import shown_uri
from isogloss.tracking.tags import PREFIX, RunKind, tag

RECENT = 200
FEWEST_CHARACTERS = 4  # of an id that is cut off
SHOWN = 8  # names in one message


def similar_runs(name: str, kind: RunKind) -> str:
    """The end of a sentence about a run that is not there: `; did you mean ID (NAME)?`.

    Runs of the kind whose id is spelled alike or begins so, or whose name is; else a full stop.
    """
    by_id = {run.info.run_id: run for run in _recent(kind)}
    ids = [
        run_id
        for run_id in by_id
        if len(name) >= FEWEST_CHARACTERS and run_id.startswith(name.casefold())
    ]
    ids = ids or closest(name, by_id, cutoff=0.8)
    if not ids:
        names = {str(run.info.run_name) for run in by_id.values()}
        close = closest(name, names, cutoff=0.8)
        ids = [run_id for run_id, run in by_id.items() if run.info.run_name in close]
    if not ids:
        return "."
    meant = [f"{run_id} ({by_id[run_id].info.run_name})" for run_id in ids[:3]]
    return f"; did you mean the {kind} run {' or '.join(meant)}?"


def similar_experiments(name: str) -> str:
    """The end of a sentence about an experiment that is not there: the one meant, or all names."""
    names = [experiment.name for experiment in experiments()]
    return did_you_mean(name, names, otherwise=f"MLflow at {shown_uri()} has {_few(names)}")


def searched(experiment_ids: Sequence[str], studies: Sequence[str]) -> str:
    """Where evaluate runs were searched, and which studies and experiments there are, in a clause.

    Studies that are spelled like those asked for are named first.
    """
    names = {experiment.experiment_id: experiment.name for experiment in experiments()}
    looked = [names.get(key, key) for key in experiment_ids]
    known = _studies(experiment_ids)
    clause = f"searched {_few(looked, 'experiment')} of MLflow at {shown_uri()}"
    clause += f", which has {_few(known, 'study')}" if known else ", which has no study"
    others = {
        names.get(run.info.experiment_id, run.info.experiment_id) for run in _recent("evaluate")
    }
    if elsewhere := sorted(others - set(looked)):
        clause += f"; {_few(elsewhere, 'experiment')} has evaluate runs too (set experiment)"
    meant = [close[0] for study in studies if (close := closest(study, known))]
    return clause + (f"; did you mean {' and '.join(map(repr, meant))}?" if meant else ".")


def _few(names: Sequence[str], kind: str = "") -> str:
    """The first names, quoted, after what they are: `experiment 'a'`, `experiments 'a', 'b'`."""
    plural = {"experiment": "the experiments", "study": "the studies"}
    singular = {"experiment": "the experiment", "study": "the study"}
    title = (plural if len(names) > 1 else singular).get(kind, "")
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{title} {', '.join(map(repr, names[:SHOWN]))}{more}".strip()


def _studies(experiment_ids: Sequence[str]) -> list[str]:
    """Names of studies in the newest evaluate and study runs of some experiments."""
    runs = [*_recent("study", experiment_ids), *_recent("evaluate", experiment_ids)]
    return list(dict.fromkeys(study for run in runs if (study := tag(run, "study"))))


def _recent(kind: str, experiment_ids: Sequence[str] | None = None) -> list[Run]:
    """The newest runs of a kind; none if MLflow does not answer, as the message matters more."""
    try:
        if experiment_ids is None:
            experiment_ids = [experiment.experiment_id for experiment in experiments()]
        page = mlflow.MlflowClient().search_runs(
            list(experiment_ids), equal(f"tags.`{PREFIX}kind`", kind), max_results=RECENT
        )
    except MlflowException:
        return []
    return list(page)
