"""The evaluations of an adapter, found in MLflow."""

import math
from collections.abc import Sequence

from mlflow.entities import Run

from isogloss.registry.cards import Result
from isogloss.tracking import NO_ADAPTER, RunKind, metrics_of, tag
from isogloss.tracking.comparability import is_base_of, language_digests
from isogloss.tracking.libraries import differ_in_major
from isogloss.tracking.search import FINISHED, experiments, find_runs
from isogloss.tracking.tags import prefixed


def evaluation_results(adapter_digest: str) -> list[Result]:
    """Accuracy of an adapter in each language of each evaluation, and the base model's if known.

    A run of the base model counts if it is comparable (tracking/comparability.py) and has the same
    items in the language; the newest does.
    """
    results = []
    for run in _finished_evaluations({"adapter": adapter_digest}):
        of_model = {
            name: value for name in ("task", "revision") if (value := tag(run, name)) is not None
        }
        bases = [
            base
            for base in _finished_evaluations({"adapter": NO_ADAPTER, **of_model})
            if is_base_of(base, run) and not differ_in_major([base, run])
        ]
        results += _results(run, bases)
    return results


def _results(run: Run, bases: Sequence[Run]) -> list[Result]:
    metrics, digests = metrics_of(run), language_digests(run)
    codes = sorted(
        name.removeprefix("accuracy/") for name in metrics if name.startswith("accuracy/")
    )

    of_bases = [(language_digests(base), metrics_of(base)) for base in bases]

    def base_accuracy(code: str) -> float:
        for base_digests, base_metrics in of_bases:
            digest = base_digests.get(code)
            if digest is not None and digest == digests.get(code):
                return base_metrics.get(f"accuracy/{code}", math.nan)
        return math.nan

    return [
        Result(
            task=tag(run, "task") or "unknown",
            split=run.data.params.get("split", "test"),
            reasoning=tag(run, "reasoning") or "unknown",
            language=code,
            base=base_accuracy(code),
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
    experiment_ids = [experiment.experiment_id for experiment in experiments()]
    wanted = prefixed({"kind": RunKind.EVALUATE, **tags})
    return find_runs(experiment_ids, wanted, status=FINISHED)
