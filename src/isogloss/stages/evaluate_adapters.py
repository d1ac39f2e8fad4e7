"""The entry point `evaluate`: the base model and adapters, one run each."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import mlflow
from mlflow.entities import Run

from isogloss import tracking
from isogloss.config import EvaluateConfig
from isogloss.errors import ConfigError, DataError, IsoglossError, ModelError, ServerError
from isogloss.registry.lookup import AdapterRef, adapter_folder
from isogloss.stages.evaluation_plan import plan_evaluation
from isogloss.stages.quick import quick_evaluation
from isogloss.stages.session import Session
from isogloss.tracking import NO_ADAPTER, RunKind, RunTags
from isogloss.tracking.experiments import choose_experiment
from isogloss.tracking.reuse import find_finished
from isogloss.tracking.tags import in_parts

OF_ONE_ADAPTER = (ModelError, DataError, ConfigError, ServerError)


def run_evaluate(config: EvaluateConfig) -> list[str]:
    """The entry point `evaluate`: one run per adapter, with a parent run if there are several.

    Returns the ids of these runs in the order of the adapters. Adapters that cannot be evaluated
    are named by ModelError before any evaluation. One that fails later does not keep the others
    from theirs: ModelError names it at the end.
    """
    if config.quick:
        config = quick_evaluation(config)
    names = config.adapter or (NO_ADAPTER,)
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"adapter names {repeated[0]!r} more than once.")
    session = Session.of(config)
    own_name = config.engine.adapter if config.engine else None
    if own_name is not None and len(set(names) - {NO_ADAPTER}) > 1:
        raise ConfigError(
            f"engine.adapter is {own_name!r}, the server's name of one adapter, but `adapter` has "
            f"{len(set(names) - {NO_ADAPTER})}; expected one."
        )
    if len(names) == 1:
        with ExitStack() as stack:
            own, adapter = _of_adapter(config, names[0], stack)
            from isogloss.stages.evaluate import evaluate  # torch: a refusal does not need it

            run = evaluate(own, session, adapter)
        _print_accuracies(run)
        return [run.info.run_id]
    return [run.info.run_id for run in _evaluate_several(config, names, session).values()]


def _of_adapter(
    config: EvaluateConfig, name: str, stack: ExitStack
) -> tuple[EvaluateConfig, AdapterRef | None]:
    """The configuration of the evaluation of one adapter, and where that adapter is."""
    if name == NO_ADAPTER:
        return config.model_copy(update={"adapter": None}), None
    folder = stack.enter_context(adapter_folder(name))
    return config.model_copy(update={"adapter": (name,)}), AdapterRef.in_folder(folder)


def _evaluate_several(
    config: EvaluateConfig, names: tuple[str, ...], session: Session
) -> Mapping[str, Run]:
    """The runs of several adapters, by their names; prints their accuracies."""
    runs: dict[str, Run] = {}
    rejected: dict[str, IsoglossError] = {}
    with ExitStack() as stack:
        evaluations: dict[str, tuple[EvaluateConfig, AdapterRef | None]] = {}
        plan_evaluation(config, session, None)  # errors that are those of every adapter
        for name in names:
            try:
                evaluations[name] = _of_adapter(config, name, stack)
            except OF_ONE_ADAPTER as error:
                rejected[name] = error
        _refuse(rejected, len(names))  # before a model is loaded
        from isogloss.stages.evaluate import evaluate  # see `run_evaluate`

        for name, (own, adapter) in evaluations.items():
            try:
                if adapter:
                    _try(own, session, adapter)
            except OF_ONE_ADAPTER as error:
                rejected[name] = error
        _refuse(rejected, len(names))
        tags = RunTags(model=config.model, source=config.source, study=config.study)
        title = f"{len(names)} evaluations"
        kind, experiment = RunKind.EVALUATIONS, config.experiment
        parent = stack.enter_context(tracking.locked_parent(kind, config, experiment))
        values = tags.as_dict() | parent.tags
        stack.enter_context(tracking.open_run(kind, title, config, values, experiment, parent.work))
        for name, (own, adapter) in evaluations.items():
            label = f"adapter {names.index(name) + 1} of {len(names)} · {name}"
            try:
                runs[name] = evaluate(own, session, adapter, label)
            except OF_ONE_ADAPTER as error:
                rejected[name] = error
        mlflow.set_tags(in_parts("cells", [run.info.run_id for run in runs.values()]))
        for name, run in runs.items():
            print(f"\nadapter {name}")
            _print_accuracies(run)
        if rejected:
            raise ModelError(
                f"{len(rejected)} of {len(names)} adapters are not evaluated "
                f"({_reasons(rejected)})."
            )
    return runs


def _try(config: EvaluateConfig, session: Session, adapter: AdapterRef) -> None:
    """Attach an adapter that has no finished run yet, so that misfits show before a run is open."""
    from isogloss.stages.evaluate import check_adapter  # see `run_evaluate`

    evaluation = plan_evaluation(config, session, adapter.digest)
    experiment = choose_experiment(config.experiment)
    if find_finished(RunKind.EVALUATE, evaluation.fingerprint, experiment) is None:
        with adapter.folder() as folder:
            check_adapter(Path(folder), evaluation, session)


def _refuse(rejected: Mapping[str, IsoglossError], count: int) -> None:
    """ModelError if there are adapters that cannot be evaluated; no run is open yet."""
    if rejected:
        raise ModelError(
            f"{len(rejected)} of {count} adapters cannot be evaluated, so none is: leave them out, "
            f"or mend them ({_reasons(rejected)})."
        )


def _reasons(rejected: Mapping[str, IsoglossError]) -> str:
    """The adapters without a run, each with its reason."""
    return "; ".join(f"{name!r}: {str(error).rstrip('.')}" for name, error in rejected.items())


def _print_accuracies(run: Run) -> None:
    """Print per-language accuracies with standard errors, their mean, and last the run's id."""
    values = tracking.metrics_of(run)
    names = sorted(name for name in values if name.startswith("accuracy/"))
    for name in sorted(names, key="accuracy/mean".__eq__):
        error = values.get(name.replace("accuracy/", "accuracy_se/"), math.nan)
        spread = "" if math.isnan(error) else f" ± {error:.3f} (standard error)"
        print(f"{name.removeprefix('accuracy/'):<10} {values[name]:.3f}{spread}")
    print(f"run {run.info.run_id}")
