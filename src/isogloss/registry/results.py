"""The evaluations of an adapter, found in MLflow."""

import math

import mlflow
from mlflow.entities import Run

from isogloss.registry.cards import Result
from isogloss.tracking import NO_ADAPTER, RunKind, tag
from isogloss.tracking.tags import PREFIX, equals

# Tags in which a run of the base model and one of an adapter must agree to be compared.
MATCHING = ("task", "format", "data_digest", "revision", "prompt_language", "chat", "reasoning")


def evaluation_results(adapter_digest: str) -> list[Result]:
    """Accuracy of an adapter in each language of each evaluation, and the base model's if known."""
    results = []
    for run in _finished_evaluations({"adapter": adapter_digest}):
        matching = {name: value for name in MATCHING if (value := tag(run, name)) is not None}
        bases = _finished_evaluations({"adapter": NO_ADAPTER, **matching})
        results += _results(run, bases[0] if bases else None)
    return results


def _results(run: Run, base: Run | None) -> list[Result]:
    metrics = run.data.metrics
    base_metrics = base.data.metrics if base else {}
    codes = sorted(
        name.removeprefix("accuracy/") for name in metrics if name.startswith("accuracy/")
    )
    return [
        Result(
            task=tag(run, "task") or "unknown",
            split=run.data.params.get("split", "test"),
            reasoning=tag(run, "reasoning") or "unknown",
            language=code,
            base=base_metrics.get(f"accuracy/{code}", math.nan),
            tuned=metrics[f"accuracy/{code}"],
            standard_error=metrics.get(f"accuracy_se/{code}", math.nan),
            items=int(metrics[f"n/{code}"]),
            run_id=run.info.run_id,
        )
        for code in codes
        if code != "mean"
    ]


def _finished_evaluations(tags: dict[str, str]) -> list[Run]:
    """Finished evaluate runs with these tags in any experiment, newest first."""
    client = mlflow.MlflowClient()
    wanted = {
        f"{PREFIX}{name}": value for name, value in {"kind": RunKind.EVALUATE, **tags}.items()
    }
    clauses = [equals(f"tags.`{name}`", value) for name, value in wanted.items()]
    runs: list[Run] = mlflow.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        filter_string=" AND ".join([*filter(None, clauses), "attributes.status = 'FINISHED'"]),
        output_format="list",
    )
    return [run for run in runs if wanted.items() <= run.data.tags.items()]
