"""Tuning: an Optuna search for a training recipe, measured on source-language dev data only.

The Optuna study holds the search: its workers share it, and a search whose workers were killed
resumes from it. MLflow shows the search as one run with a child run per trial.
"""

import hashlib
import logging
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pandas as pd
import yaml
from filelock import FileLock
from mlflow.entities import Run
from optuna.trial import FrozenTrial

from isogloss import tracking
from isogloss.analysis.frames import csv_text
from isogloss.config import FinetuneConfig, SharedConfig, TuneConfig, command_line
from isogloss.errors import ConfigError, TrainingError
from isogloss.formatting import listed
from isogloss.hpo.pruner import PairedPruner, report_measurement
from isogloss.hpo.results import (
    best_trial,
    count_states,
    search_page,
    trial_outcome,
    trials_table,
)
from isogloss.hpo.retry import first_attempt, next_attempts
from isogloss.hpo.space import Space, read_space
from isogloss.hpo.storage import open_storage
from isogloss.hpo.workers import STARTUP_TRIALS, Worker, run_trials
from isogloss.logs import bars_of
from isogloss.predictions.table import Prediction
from isogloss.prompts.protocol import Protocol
from isogloss.stages.recipe_by_name import BEST_RECIPE
from isogloss.stages.session import Session
from isogloss.stages.training_inputs import SourceData, fit_source_data, source_data
from isogloss.tracking.ending import insist
from isogloss.tracking.experiments import choose_experiment
from isogloss.tracking.leases import Lease
from isogloss.tracking.metric_log import SHORT_WAIT, MetricLog
from isogloss.tracking.resume import WorkDir, work_folder, work_lock
from isogloss.tracking.reuse import left_run
from isogloss.tracking.server import UNREACHABLE, in_a_hurry, no_retries, uploading
from isogloss.tracking.tags import NO_ADAPTER, RunKind, RunTags, prefixed
from isogloss.tracking.trials import TrialRun, publish_trial
from isogloss.tracking.versions import training_versions
from isogloss.training.loop import TrainingJob, recipe_lora_config, train
from isogloss.training.recipe import Recipe
from isogloss.types import Condition

logger = logging.getLogger(__name__)

DECISIVE = "begun_with"  # attribute of a study: what its trials have in common
LONGEST_LOCK = 3  # seconds to wait for another worker, in one that was interrupted
RUN_ID = "run_id"  # attribute of a study: its run in MLflow


@dataclass(frozen=True)
class TunePlan:
    """Everything about a search that is known before its study is opened.

    `decisive` is JSON: trials compare with one another only if it is the same for them.
    """

    config: TuneConfig
    name: str
    space: Space
    data: SourceData
    protocol: Protocol
    decisive: dict[str, Any]  # JSON
    tags: RunTags
    folder: Path


@dataclass(frozen=True)
class Search:
    """A search in progress: what a worker needs for its trials."""

    plan: TunePlan
    session: Session
    data: SourceData  # as it fits the model's context window
    study: optuna.Study
    lock: FileLock
    run: Run


@dataclass(frozen=True)
class SearchWork:
    """The work folder of a search; the run is an attribute of the study, for all its workers."""

    folder: Path
    study: optuna.Study

    @property
    def run_id(self) -> str | None:
        """The run of the search."""
        run_id: str | None = self.study.user_attrs.get(RUN_ID)
        return run_id

    @property
    def lease(self) -> Lease:
        """None: several workers share a search."""
        return Lease()

    def record_run(self, run_id: str) -> None:
        """Store the run in the study."""
        if run_id != self.run_id:
            self.study.set_user_attr(RUN_ID, run_id)


def run_tune(config: TuneConfig) -> str:
    """The entry point `tune`: run trials until there are enough, log and print the best recipe.

    Returns the id of the search's run. Raises ConfigError for an engine that trains or evaluates
    elsewhere: trials are pruned by measurements that only this process makes.
    """
    if config.engine is not None:
        raise ConfigError(
            f"engine is of kind {str(config.engine.kind)!r}, but a search trains and measures in "
            "this process; expected auto, and its recipe for finetune with an engine."
        )
    session = Session.of(config)
    plan = plan_search(config, session)
    lock = work_lock(plan.folder)
    with lock:
        study = _open_study(plan)
    data = fit_source_data(plan.data, session.model, plan.protocol, config)
    _check_space(plan, session)
    with ExitStack() as stack:
        with lock:
            if not _check_same_search(plan, study):  # nothing is stored of a space that is refused
                study.set_user_attr(DECISIVE, plan.decisive)
            run = stack.enter_context(_open_run(plan, study))
        search = Search(plan, session, data, study, lock, run)
        with lock, uploading(plan.folder):
            _publish_finished_trials(search)
        try:
            run_trials(
                Worker(study, lock, config.trials, config.seed),
                objective=partial(_train_trial, search),
                after_trial=partial(_try_to_publish, search),
            )
        except BaseException as error:
            insist(partial(_publish_interrupted, search), error)
            raise
        with lock, uploading(plan.folder):
            _publish_finished_trials(search)
            best = _log_results(search)
    with lock, suppress(OSError):  # not empty, or another worker has deleted it
        plan.folder.rmdir()
    _print_results(search, best)
    return str(run.info.run_id)


def plan_search(config: TuneConfig, session: Session) -> TunePlan:
    """Read space and data, and compute what identifies the search."""
    space = read_space(Path(config.space))
    data = source_data(config)
    protocol = session.protocol(config, data.task)
    name = config.study or f"{data.task.name}-{config.source}-{protocol.format}-{config.model}"
    data_digest, dev_digest = tracking.data_digest(data.train), tracking.data_digest(data.dev)
    versions = training_versions(data.task.name, protocol)
    decisive = {
        "model": session.location.revision,
        "training items": data_digest,
        "dev items": dev_digest,
        "version of isogloss's components": versions,
        "protocol": protocol.as_dict(),
        "long_inputs, max_length": [config.long_inputs, config.max_length],
        **session.numerics,
        "seed": config.seed,
        "space": space.describe(),
        "objective": config.objective,
        "measurements": config.measurements,
        "pruning": config.pruning,
    }
    tags = replace(
        session.run_tags(config, data.task, protocol, Condition.TUNED),
        adapter=NO_ADAPTER,  # the adapter of a trial is measured and not kept
        study=name,
        fingerprint=tracking.fingerprint(kind="tune", **decisive),
        data_digest=data_digest,
        dev_digest=dev_digest,
        versions=versions,
    )
    # Studies in different storages may have the same name.
    place = hashlib.sha256(f"{name} {config.storage}".encode()).hexdigest()[:12]
    folder = work_folder(f"tune-{place}")
    return TunePlan(config, name, space, data, protocol, decisive, tags, folder)


def _check_space(plan: TunePlan, session: Session) -> None:
    """ConfigError for modules that the model does not have; for all ranks if none has memory."""
    smallest = {name: plan.space.values(name)[0] for name in ("rank", "dropout")}
    for modules in plan.space.values("target_modules"):
        try:
            recipe_lora_config(session.model, Recipe(**smallest, target_modules=modules))
        except ConfigError as error:
            raise ConfigError(f"space {plan.config.space!r}: {error}") from error


def _open_study(plan: TunePlan) -> optuna.Study:
    """Create or load the study; ConfigError if its trials do not compare with the plan's."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = PairedPruner(STARTUP_TRIALS) if plan.config.pruning else optuna.pruners.NopPruner()
    study = optuna.create_study(
        study_name=plan.name,
        storage=open_storage(plan.config.storage),
        direction="maximize",
        load_if_exists=True,
        pruner=pruner,
    )
    _check_same_search(plan, study)
    return study


def _check_same_search(plan: TunePlan, study: optuna.Study) -> bool:
    """Whether a study has begun; ConfigError if its trials do not compare with the plan's."""
    stored = study.user_attrs.get(DECISIVE)
    if stored is None and not study.get_trials(deepcopy=False):
        return False
    differing = [name for name, value in plan.decisive.items() if (stored or {}).get(name) != value]
    if differing:
        raise ConfigError(
            f"study {plan.name!r} was started with another {listed(differing)}, so its trials "
            f"are not comparable with new ones; use the same, or another study=NAME."
        )
    return True


def _open_run(plan: TunePlan, study: optuna.Study) -> AbstractContextManager[Run]:
    plan.folder.mkdir(exist_ok=True)
    config, work = plan.config, SearchWork(plan.folder, study)
    if work.run_id is None:  # unless a killed process has opened it and not recorded it
        tags = {"kind": RunKind.TUNE, "fingerprint": str(plan.tags.fingerprint)}
        if left := left_run(choose_experiment(config.experiment), tags):
            work.record_run(left)
    return tracking.open_run(
        RunKind.TUNE, f"tune {plan.name}", config, plan.tags.as_dict(), config.experiment, work
    )


def _train_trial(search: Search, trial: optuna.Trial) -> float:
    """Train with the recipe that Optuna suggests; return the objective on dev data."""
    config = search.plan.config
    values = search.plan.space.suggest(trial)
    recipe = Recipe(
        **values.model_dump(),
        seed=config.seed,
        eval_every=math.ceil(values.steps / config.measurements),
    )
    label = f"trial {trial.number} · {_described(trial.params)}"
    work = WorkDir(search.plan.folder / f"trial-{trial.number}")
    work.delete()  # left by a study of that name whose database was deleted
    work.folder.mkdir(parents=True)
    trial_run = _describe_run(trial, search, recipe)
    trial_run.write(work.folder)
    objective = math.nan

    def report(step: int, predictions: list[Prediction]) -> None:
        nonlocal objective
        passage_scores, objective = dev_scores(predictions, config.objective)
        if step == 0:
            return
        number = math.ceil(step / recipe.eval_every)
        report_measurement(trial, number, passage_scores, objective)
        if step < recipe.steps and trial.should_prune():
            logger.info(f"{label}: pruned after {step} steps, {config.objective} {objective:.3f}")
            raise optuna.TrialPruned

    metrics = MetricLog(work.folder, lambda: trial_run.run_id(work.folder))
    try:
        with tempfile.TemporaryDirectory() as scratch:
            job = TrainingJob(
                task=search.data.task.name,
                train_items=search.data.train,
                dev_items=search.data.dev,
                protocol=search.plan.protocol,
                recipe=recipe,
                folder=Path(scratch),
                description=label,
            )
            with bars_of(f"trial {trial.number}"):
                train(search.session.model, job, log=metrics.log, on_measurement=report)
    except ConfigError as error:  # a rank without memory; other trials have other ranks
        raise TrainingError(str(error)) from error
    finally:
        metrics.close(SHORT_WAIT)
    logger.info(f"{label}: {config.objective} {objective:.3f}")
    return objective


def dev_scores(predictions: Sequence[Prediction], objective: str) -> tuple[list[float], float]:
    """The mean objective of each passage, by passage id, and the mean over all items."""
    scores = pd.DataFrame(
        {
            "passage": [prediction.passage_id for prediction in predictions],
            "accuracy": [float(prediction.correct) for prediction in predictions],
            "gold_logprob": [prediction.gold_logprob for prediction in predictions],
        }
    )
    by_passage = scores.groupby("passage")[objective].mean().sort_index()
    return by_passage.tolist(), float(scores[objective].mean())


def _describe_run(trial: optuna.Trial, search: Search, recipe: Recipe) -> TrialRun:
    """The description of a trial's run."""
    parent, plan = search.run, search.plan
    fingerprint = tracking.fingerprint(tune=plan.tags.fingerprint, recipe=asdict(recipe))
    tags = replace(plan.tags, fingerprint=fingerprint).as_dict() | {
        "kind": RunKind.TRIAL.value,
        "trial": str(trial.number),
        "state": "running",
    }
    frozen = search.study.get_trials(deepcopy=False)[trial.number]
    if (retried := first_attempt(frozen)) is not None:
        tags["retry_of"] = str(retried)
    origin = {
        name: value
        for name, value in parent.data.tags.items()
        if name.startswith(("mlflow.user", "mlflow.source"))
    }
    return TrialRun(
        experiment_id=parent.info.experiment_id,
        name=f"trial {trial.number}",
        started=int(time.time() * 1000),
        tags={**origin, **prefixed(tags), "mlflow.parentRunId": parent.info.run_id},
        params={f"recipe.{key}": str(value) for key, value in asdict(recipe).items()},
    )


def _publish_finished_trials(search: Search) -> None:
    """Send all finished trials to MLflow, those of killed workers included."""
    attempts = next_attempts(search.study)
    for trial in search.study.get_trials(deepcopy=False):
        folder = search.plan.folder / f"trial-{trial.number}"
        if trial.state.is_finished() and folder.is_dir():
            publish_trial(trial_outcome(trial, attempts.get(trial.number)), folder)


def _try_to_publish(search: Search) -> None:
    """Send finished trials unless the server is unreachable: the end of the search waits for it."""
    with search.lock, suppress(*UNREACHABLE), no_retries():
        _publish_finished_trials(search)


def _publish_interrupted(search: Search) -> None:
    """Send what has finished, and end the run of the trial that was interrupted."""
    with in_a_hurry(), search.lock.acquire(LONGEST_LOCK):
        _publish_finished_trials(search)


def _log_results(search: Search) -> FrozenTrial:
    """Log the best recipe, the table of trials and the plots to the search's run."""
    study, objective = search.study, search.plan.config.objective
    best = best_trial(study)
    tracking.log_metrics_once(
        {f"dev/{objective}": best.values[0], "best_trial": best.number}
        | {f"trials/{state}": count for state, count in count_states(study).items()}
    )
    mlflow.log_text(_recipe_yaml(search, best), BEST_RECIPE)
    mlflow.log_text(csv_text(trials_table(study, objective)), "trials.csv")
    mlflow.log_text(search_page(study, objective), "search.html")
    return best


def _recipe_yaml(search: Search, best: FrozenTrial) -> str:
    """The best recipe, in the form that finetune and study files read."""
    plan = search.plan
    values = plan.space.complete(best.params).model_dump()
    return (
        f"# Trial {best.number} of study {plan.name}: {plan.config.objective} "
        f"{best.value:.4f} on {len(search.data.dev)} dev items in {plan.config.source}.\n"
        + yaml.safe_dump({"finetune": values}, sort_keys=False)
    )


def _print_results(search: Search, best: FrozenTrial) -> None:
    """Print the numbers of trials, the best recipe, the finetune command for it and the run."""
    config, run_id = search.plan.config, search.run.info.run_id
    counts = ", ".join(
        f"{count} {state}" for state, count in count_states(search.study).items() if count
    )
    print(f"\n{counts}; the best is trial {best.number}: {config.objective} {best.value:.3f}")
    print(_recipe_yaml(search, best))
    shared = {name: getattr(config, name) for name in SharedConfig.model_fields if name != "study"}
    print(command_line("finetune", FinetuneConfig(**shared, recipe=run_id)))
    print(f"run {run_id}")


def _described(params: Mapping[str, object]) -> str:
    """Hyperparameters in a log line: `learning_rate 0.0013, rank 8`."""
    return ", ".join(
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in params.items()
    )
