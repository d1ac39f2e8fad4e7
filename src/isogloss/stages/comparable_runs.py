"""Whether evaluate runs may be compared: the tags they have to share."""

from collections.abc import Callable, Iterable, Sequence

from mlflow.entities import Run

from isogloss.analysis.score_matrix import RunKey, first_few
from isogloss.errors import ComparisonError
from isogloss.tracking import tag
from isogloss.types import Condition

# Tags that must agree in all runs, in the runs of a model, and in those of a model and condition.
OF_ALL_RUNS = ("task", "format", "normalisation", "prompt_version", "prompt_language")
OF_A_MODEL = ("revision", "dtype", "attention", "chat", "recipe")
OF_A_CONDITION = ("max_new_tokens",)
ADVICE = "Choose runs with `runs`, `study` or `tags`."


def run_key(run: Run) -> RunKey:
    """What a run measured; an adapter without a known seed is identified by its digest.

    ComparisonError if the condition is not one of Condition.
    """
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
    digest = tag(run, "adapter") or ""
    return RunKey(model, condition, tag(run, "source") or "", seed or digest[:8])


def check_comparable(runs: Sequence[Run]) -> None:
    """Check that runs differ only in what a comparison allows.

    ComparisonError otherwise; it names the tag, its values and the runs that have them.
    """
    for names, scope in (
        (OF_ALL_RUNS, lambda run: ""),
        (OF_A_MODEL, lambda run: f" of {tag(run, 'model')}"),
        (OF_A_CONDITION, lambda run: f" of {tag(run, 'model')} in {tag(run, 'condition')}"),
    ):
        for name in names:
            _check_tag(runs, name, scope)
    _check_items(runs)
    _check_adapters(runs)


def run_ids(runs: Iterable[Run]) -> str:
    """The first few ids of runs."""
    return first_few(run.info.run_id for run in runs)


def _check_tag(runs: Sequence[Run], name: str, scope: Callable[[Run], str]) -> None:
    """One value of a tag per scope; runs without the tag are not checked."""
    by_scope: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        if (value := tag(run, name)) is not None:
            by_scope.setdefault(scope(run), {}).setdefault(value, []).append(run)
    for where, by_value in by_scope.items():
        if len(by_value) > 1:
            values = "; ".join(
                f"{value!r} in {run_ids(having)}" for value, having in by_value.items()
            )
            raise ComparisonError(
                f"the runs{where} cannot be compared: {name} is {values}. {ADVICE}"
            )


def _check_items(runs: Sequence[Run]) -> None:
    """One digest of items per language; runs without digests are compared item by item later."""
    by_language: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        for pair in (tag(run, "language_digests") or "").split():
            code, digest = pair.split(":", 1)
            by_language.setdefault(code, {}).setdefault(digest, []).append(run)
    differing = [code for code, by_digest in by_language.items() if len(by_digest) > 1]
    if differing:
        first = differing[0]
        digests = "; ".join(
            f"{digest} in {run_ids(having)}" for digest, having in by_language[first].items()
        )
        raise ComparisonError(
            f"the runs cannot be compared: their items differ in {first_few(differing)} (digest of "
            f"{first}: {digests}). {ADVICE}"
        )


def _check_adapters(runs: Sequence[Run]) -> None:
    """One adapter per model, condition, source and seed."""
    by_key: dict[RunKey, dict[str | None, Run]] = {}
    for run in runs:
        by_key.setdefault(run_key(run), {})[tag(run, "adapter")] = run
    for key, by_adapter in by_key.items():
        if len(by_adapter) > 1:
            raise ComparisonError(
                f"runs {run_ids(by_adapter.values())} have different adapters but are all {key}. "
                f"{ADVICE}"
            )
