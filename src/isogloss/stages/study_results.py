"""What the run of a study shows in MLflow: its numbers as columns, and a saved view of its runs."""

from collections.abc import Iterable, Sequence

from mlflow.entities import Run

from isogloss.languages import group, language
from isogloss.tracking import RunKind, tag
from isogloss.tracking.saved_view import View, save_view
from isogloss.tracking.tags import PREFIX
from isogloss.types import Group

ACCURACY = "accuracy/"
MEAN = "accuracy/mean"
MOST_CHARTS = 24  # languages with a chart; the table has all of them
LISTED_RUNS = 60  # in the filter of a view, by id; a view of more selects them by their study
COLUMNS = (
    *("mean_accuracy/base", "mean_accuracy/tuned", "gain/mean"),
    *(f"contrast/accuracy{part}" for part in ("", "_low", "_high", "_p")),
)
# Numbers of the comparison that the study's run has, too.
HEADLINES = (
    *(f"contrast/accuracy{part}" for part in ("", "_low", "_high", "_p")),
    *(f"crossed/kinship{part}" for part in ("", "_low", "_high", "_p")),
    "contrast/minimum_detectable_effect",
    "gain/mean",
)


def study_metrics(evaluated: Sequence[Run], compared: Run | None) -> dict[str, float]:
    """The metrics of a study's run: mean accuracy of each condition, headlines of the comparison.

    A mean is over languages, then over the runs of a condition: models, sources and seeds.
    """
    means: dict[str, list[float]] = {}
    for run in evaluated:
        if (condition := tag(run, "condition")) and MEAN in run.data.metrics:
            means.setdefault(condition.replace("+", "_"), []).append(run.data.metrics[MEAN])
    values = {f"mean_accuracy/{name}": sum(each) / len(each) for name, each in means.items()}
    known = compared.data.metrics if compared else {}
    return values | {name: known[name] for name in HEADLINES if name in known}


def save_study_view(study: str, source: str, run: Run, evaluated: Sequence[Run]) -> str | None:
    """Save a view of a study's evaluate runs, with the accuracy in each language, base first.

    Returns its address; None if no run has metrics of languages, or the view is too long. `run` is
    that of the study.
    """
    codes = {
        name.removeprefix(ACCURACY)
        for each in evaluated
        for name in each.data.metrics
        if name.startswith(ACCURACY) and name != MEAN
    }
    if not codes:
        return None
    base = next((each for each in evaluated if tag(each, "condition") == "base"), evaluated[0])
    view = View(
        filter=_filter(study, [each.info.run_id for each in evaluated]),
        tags=[f"{PREFIX}condition"],
        metrics=[MEAN, "accuracy_group/related", "accuracy_group/control"],
        baseline=base.info.run_id,
        charts={
            language(code).name: f"{ACCURACY}{code}"
            for code in ordered_by_kinship(source, codes)[:MOST_CHARTS]
        },
    )
    return save_view(view, f"study {study} {run.info.run_id}", run.info.experiment_id)


def save_list_of_studies(experiment_id: str) -> str | None:
    """Save a view of the studies of an experiment with their numbers; return its address."""
    kind = f"tags.`{PREFIX}kind` = '{RunKind.STUDY}'"
    return save_view(View(kind, [f"{PREFIX}verdict"], COLUMNS), "studies", experiment_id)


def ordered_by_kinship(source: str, codes: Iterable[str]) -> list[str]:
    """Languages: the source, its varieties, its relatives, then all others, each by name."""
    order = list(Group)
    return sorted(codes, key=lambda code: (order.index(group(code, source)), language(code).name))


def _filter(study: str, run_ids: Sequence[str]) -> str:
    """MLflow's filter of the evaluate runs of a study."""
    if len(run_ids) <= LISTED_RUNS or "'" in study:
        listed = ", ".join(f"'{run_id}'" for run_id in run_ids)
        return f"attributes.run_id IN ({listed})"
    return f"tags.`{PREFIX}study` = '{study}' AND tags.`{PREFIX}kind` = 'evaluate'"
