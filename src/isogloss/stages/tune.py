"""Tuning: an Optuna search for a training recipe, judged in the source language alone.

The study in Optuna's storage is what counts: workers share it, and it is gone on with after any of
them was killed. MLflow has one run for the study and one below it for each trial.
"""

import hashlib
import logging
import math
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pandas as pd
import yaml
from filelock import FileLock
from mlflow.entities import Run
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from isogloss import tracking
from isogloss.config import FinetuneConfig, SharedConfig, TuneConfig, command_line
from isogloss.errors import ConfigError, TrainingError
from isogloss.formatting import listed
from isogloss.hpo.results import best_trial, search_page, states, trials_table
from isogloss.hpo.space import Space, read_space
from isogloss.hpo.storage import MEAN, MEASUREMENT, PairedPruner, Retry, open_storage, quiet_optuna
from isogloss.hpo.trials import TrialRun, publish
from isogloss.predictions.table import Prediction
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import PROMPT_VERSION
from isogloss.stages.finetune import BEST, SourceData, fitted, source_data
from isogloss.stages.session import Session
from isogloss.tracking import RunKind
from isogloss.tracking.metric_log import SHORT_WAIT, MetricLog
from isogloss.tracking.resume import WorkDir, work_lock, work_root
from isogloss.tracking.server import UNREACHABLE, no_retries, uploading
from isogloss.training.loop import TrainingJob, train
from isogloss.training.recipe import Recipe

logger = logging.getLogger(__name__)

STARTUP_TRIALS = 5  # drawn at random before the sampler learns from them
WAIT = 2.0  # seconds between two looks at what other workers do
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class SearchRun(WorkDir):
    """The work of a search, whose run all its workers know from the Optuna study."""

    study: optuna.Study

    @property
    def run_id(self) -> str | None:
        """The run of the search."""
        found = self.study.user_attrs.get("run_id")
        return None if found is None else str(found)

    def record_run(self, run_id: str) -> None:
        """Tell all workers."""
        if run_id != self.run_id:
            self.study.set_user_attr("run_id", run_id)


@dataclass(frozen=True)
class Search:
    """What a worker needs for its trials."""

    config: TuneConfig
    space: Space
    study: optuna.Study
    session: Session
    data: SourceData
    protocol: Protocol
    tags: dict[str, str]
    folder: Path
    lock: FileLock
    retry: Retry
    parent: Run


def run_tune(config: TuneConfig) -> None:
    """The entry point `tune`: reach the number of trials, print the best recipe."""
    space = read_space(Path(config.space))
    data = source_data(config)
    session = Session.of(config)
    protocol = session.protocol(config, data.task)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = config.study or f"{data.task.name}-{config.source}-{protocol.format}-{config.model}"
    # Two studies may have one name in two storages.
    place = hashlib.sha256(f"{name} {config.storage}".encode()).hexdigest()[:12]
    folder = work_root() / f"tune-{place}"
    lock = work_lock(folder.name)
    with lock:
        storage, retry = open_storage(config.storage)
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            pruner=PairedPruner(STARTUP_TRIALS) if config.pruning else optuna.pruners.NopPruner(),
        )
    decisive = _decisive(config, space, data, session, protocol)
    tags = {
        "model": config.model,
        "revision": session.location.revision,
        "source": config.source,
        "task": data.task.name,
        "format": protocol.format,
        "reasoning": protocol.reasoning,
        "condition": "tuned",
        "adapter": "none",  # a trial's adapter is measured and not kept
        "study": name,
        "prompt_language": protocol.prompt_language,
        "fingerprint": tracking.fingerprint(kind="tune", **decisive),
        "data_digest": tracking.data_digest(data.train),
        "dev_digest": tracking.data_digest(data.dev),
        **session.numerics,
    }
    with lock:
        _refuse_another(study, decisive)
    asked = fitted(data, session, protocol, config)
    with ExitStack() as stack:
        with lock:
            folder.mkdir(exist_ok=True)
            work = SearchRun(folder, study)
            parent = stack.enter_context(
                tracking.open_run(
                    RunKind.TUNE, f"tune {name}", config, tags, config.experiment, work
                )
            )
        search = Search(
            config, space, study, session, asked, protocol, tags, folder, lock, retry, parent
        )
        with lock, uploading(folder):
            _publish_ended(search)
        _work(search)
        with lock, uploading(folder):
            _publish_ended(search)
            best = _log_search(search)
    with lock, suppress(OSError):  # it is not empty, or another worker was quicker
        folder.rmdir()
    _print_best(search, best)


def _decisive(
    config: TuneConfig, space: Space, data: SourceData, session: Session, protocol: Protocol
) -> dict[str, Any]:
    """All that has to be the same for two trials to be compared, as JSON."""
    return {
        "model": session.location.revision,
        "training items": tracking.data_digest(data.train),
        "dev items": tracking.data_digest(data.dev),
        "prompts": PROMPT_VERSION,
        "protocol": protocol.as_dict(),
        "long_inputs, max_length": [config.long_inputs, config.max_length],
        **session.numerics,
        "seed": config.seed,
        "space": space.describe(),
        "objective": config.objective,
        "measurements": config.measurements,
        "pruning": config.pruning,
    }


def _refuse_another(study: optuna.Study, decisive: dict[str, Any]) -> None:
    """ConfigError if the study was begun with something else, so that values do not compare."""
    begun = study.user_attrs.get("begun_with")
    if begun is None and not study.get_trials(deepcopy=False):
        study.set_user_attr("begun_with", decisive)
        return
    differing = [name for name, value in decisive.items() if (begun or {}).get(name) != value]
    if differing:
        raise ConfigError(
            f"study {study.study_name!r} was begun with another {listed(differing)}, so its trials "
            f"do not compare with new ones; give another study=NAME."
        )


def ended(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those asked for: it has an outcome, and be it a failure of its own.

    Trials whose worker was killed have none, and are tried again.
    """
    return trial.state in COUNTED or (
        trial.state == TrialState.FAIL and "reason" in trial.user_attrs
    )


def _work(search: Search) -> None:
    """Do trials until there are enough, and wait for those of other workers, lest one be killed."""
    waiting = False
    while True:
        search.lock.acquire()
        try:
            with quiet_optuna():
                optuna.storages.fail_stale_trials(search.study)
            trials = search.study.get_trials(deepcopy=False)
            done = sum(map(ended, trials))
            running = sum(trial.state == TrialState.RUNNING for trial in trials)
            if done >= search.config.trials:
                return
            if done + running < search.config.trials:
                waiting = False
                _one_trial(search, len(trials))
                continue
        finally:
            if search.lock.is_locked:
                search.lock.release()
        if not waiting:
            logger.info(f"{done} of {search.config.trials} trials ended; waiting for other workers")
            waiting = True
        time.sleep(WAIT)


def _one_trial(search: Search, number: int) -> None:
    """Ask Optuna for a trial (with the lock held until it has one), do it, tell what came out."""
    study = search.study
    # By number: workers that start at once draw differently, and one alone draws the same again.
    seed = int.from_bytes(hashlib.sha256(f"{search.config.seed} {number}".encode()).digest()[:4])
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
    taken: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        taken.append(trial.number)
        _surplus(search, trial)
        search.lock.release()
        return _trial(trial, search)

    try:
        with quiet_optuna():
            study.optimize(objective, n_trials=1, catch=(TrainingError,))
    except UpdateFinishedTrialError:
        logger.info(
            f"trial {taken[0]} was given up by another worker, since this one gave no sign of "
            f"life; its result is dropped"
        )
    except BaseException:
        if taken:
            search.retry(study, study.get_trials()[taken[0]])
        raise
    frozen = study.get_trials()[taken[0]]
    if frozen.state == TrialState.FAIL and "reason" in frozen.user_attrs:
        logger.info(f"trial {frozen.number} failed: {frozen.user_attrs['reason']}")
    with search.lock, suppress(*UNREACHABLE), no_retries():
        _publish_ended(search)  # or at the end, where a server that is away is waited for


def _publish_ended(search: Search) -> None:
    """Bring the runs of all trials that have ended up to date, those of killed workers too."""
    trials = search.study.get_trials(deepcopy=False)
    retried = {
        trial.system_attrs["retry_history"][-1]: trial.number
        for trial in trials
        if trial.system_attrs.get("retry_history")
    }
    for trial in trials:
        folder = search.folder / f"trial-{trial.number}"
        if trial.state.is_finished() and folder.is_dir():
            publish(trial, folder, retried)


def _log_search(search: Search) -> FrozenTrial:
    """Log the best recipe, the table of trials and the plots to the search's run."""
    study, objective = search.study, search.config.objective
    best = best_trial(study)
    mlflow.log_metrics(
        {f"dev/{objective}": study.best_value, "best_trial": best.number}
        | {f"trials/{state}": count for state, count in states(study).items()}
    )
    mlflow.log_text(_best_yaml(search, best), BEST)
    mlflow.log_text(trials_table(study, objective).to_csv(index=False), "trials.csv")
    mlflow.log_text(search_page(study, objective), "search.html")
    return best


def _best_yaml(search: Search, best: FrozenTrial) -> str:
    """The best recipe, as finetune and study files take it."""
    values = search.space.complete(best.params).model_dump()
    return (
        f"# Trial {best.number} of study {search.study.study_name}: {search.config.objective} "
        f"{best.value:.4f} on {len(search.data.dev)} dev items in {search.config.source}.\n"
        + yaml.safe_dump({"finetune": values}, sort_keys=False)
    )


def _print_best(search: Search, best: FrozenTrial) -> None:
    config, run_id = search.config, search.parent.info.run_id
    told = ", ".join(f"{count} {state}" for state, count in states(search.study).items() if count)
    print(f"\n{told}; the best is trial {best.number}: {config.objective} {best.value:.3f}")
    print(_best_yaml(search, best))
    same = {name: getattr(config, name) for name in SharedConfig.model_fields if name != "study"}
    print(command_line("finetune", FinetuneConfig(**same, recipe=run_id)))
    print(f"run {run_id}")


def _surplus(search: Search, trial: optuna.Trial) -> None:
    """Fail a trial that another machine's worker, which no lock reaches, has made needless."""
    earlier = search.study.get_trials(deepcopy=False)[: trial.number]
    if sum(ended(one) or one.state == TrialState.RUNNING for one in earlier) >= (
        search.config.trials
    ):
        raise TrainingError("not needed: other workers have taken the last trials.")


def _trial(trial: optuna.Trial, search: Search) -> float:
    """Train with what Optuna suggests; the objective on source-language dev data."""
    config = search.config
    values = search.space.suggest(trial)
    recipe = Recipe(
        **values.model_dump(),
        seed=config.seed,
        eval_every=math.ceil(values.steps / config.measurements),
    )
    label = f"trial {trial.number} · {_shown(trial.params)}"
    work = WorkDir(search.folder / f"trial-{trial.number}")
    work.delete()  # what a database that was deleted has left
    work.folder.mkdir(parents=True)
    run = _run_of(trial, search, recipe)
    run.write(work.folder)
    metrics = MetricLog(work.folder, lambda: run.run_id(work.folder))
    objective = math.nan

    def measured(step: int, predictions: list[Prediction]) -> None:
        nonlocal objective
        scores = pd.DataFrame(
            {
                "passage": [prediction.passage_id for prediction in predictions],
                "accuracy": [float(prediction.correct) for prediction in predictions],
                "gold_logprob": [prediction.gold_logprob for prediction in predictions],
            }
        )
        objective = float(scores[config.objective].mean())
        stage = math.ceil(step / recipe.eval_every)
        by_passage = scores.groupby("passage")[config.objective].mean().sort_index()
        if step == 0:
            return
        for at, value in enumerate(by_passage):
            trial.report(float(value), MEASUREMENT * stage + at)
        trial.report(objective, MEASUREMENT * stage + MEAN)
        if step < recipe.steps and trial.should_prune():
            logger.info(f"{label}: pruned after {step} steps, {config.objective} {objective:.3f}")
            raise optuna.TrialPruned

    try:
        with tempfile.TemporaryDirectory() as scratch:
            job = TrainingJob(
                task=search.data.task.name,
                train_items=search.data.train,
                dev_items=search.data.dev,
                protocol=search.protocol,
                recipe=recipe,
                folder=Path(scratch),
                description=label,
            )
            train(search.session.model, job, log=metrics.log, on_measurement=measured)
        logger.info(f"{label}: {config.objective} {objective:.3f}")
        return objective
    except TrainingError as error:
        trial.set_user_attr("reason", str(error))
        raise
    finally:
        metrics.close(SHORT_WAIT)


def _run_of(trial: optuna.Trial, search: Search, recipe: Recipe) -> TrialRun:
    """The run that is to show a trial."""
    parent = search.parent.info
    labels = search.tags | {
        "kind": RunKind.TRIAL,
        "trial": str(trial.number),
        "state": "running",
        "fingerprint": tracking.fingerprint(tune=search.tags["fingerprint"], recipe=asdict(recipe)),
    }
    frozen = search.study.get_trials(deepcopy=False)[trial.number]
    if (first := frozen.system_attrs.get("failed_trial")) is not None:
        labels["retry_of"] = str(first)
    told = search.parent.data.tags.items()
    origin = {key: value for key, value in told if key.startswith(("mlflow.user", "mlflow.source"))}
    return TrialRun(
        experiment_id=parent.experiment_id,
        name=f"trial {trial.number}",
        started=int(time.time() * 1000),
        tags={
            **origin,
            **{f"isogloss.{key}": value for key, value in labels.items()},
            "mlflow.parentRunId": parent.run_id,
        },
        params={f"recipe.{key}": str(value) for key, value in asdict(recipe).items()},
    )


def _shown(params: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in params.items()
    )
