"""Tuning: an Optuna search for a training recipe, judged in the source language alone.

The study in Optuna's storage is what counts: workers share it, and it is gone on with after any of
them was killed. MLflow has one run for the study and one below it for each trial.
"""

import hashlib
import math
import tempfile
import time
from collections import Counter
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
from isogloss.config import TuneConfig
from isogloss.errors import ConfigError, TrainingError
from isogloss.finetuning import BEST, SourceData, fitted, source_data
from isogloss.predictions import Prediction
from isogloss.progress import announce
from isogloss.prompts import PROMPT_VERSION, Protocol
from isogloss.searching import MEAN, MEASUREMENT, PairedPruner, Retry, open_storage, quiet_optuna
from isogloss.session import Session
from isogloss.spaces import Space, read_space
from isogloss.training import Recipe, train
from isogloss.trials import TrialRun, outcome, publish
from isogloss.tuning_page import search_page
from isogloss.unfinished import (
    SHORT_WAIT,
    UNREACHABLE,
    MetricLog,
    Work,
    few_retries,
    unfinished_dir,
    uploading,
)

STARTUP_TRIALS = 5  # drawn at random before the sampler learns from them
WAIT = 2.0  # seconds between two looks at what other workers do
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class SearchRun(Work):
    """The work of a search, whose run all its workers know from the Optuna study."""

    study: optuna.Study

    @property
    def run_id(self) -> str | None:
        """The run of the search."""
        found = self.study.user_attrs.get("run_id")
        return None if found is None else str(found)

    def belongs_to(self, run_id: str) -> None:
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
    session = Session(config.model, config.dtype)
    protocol = session.protocol(config, data.task)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = config.study or f"{data.task.name}-{config.source}-{protocol.format}-{config.model}"
    # Two studies may have one name in two storages.
    place = hashlib.sha256(f"{name} {config.storage}".encode()).hexdigest()[:12]
    folder = unfinished_dir() / f"tune-{place}"
    (folder.parent / ".locks").mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / ".locks" / folder.name)
    with lock:
        storage, retry = open_storage(config.storage)
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            pruner=PairedPruner(STARTUP_TRIALS) if config.pruning else optuna.pruners.NopPruner(),
        )
    tags = {
        "model": config.model,
        "revision": session.source.revision,
        "source": config.source,
        "task": data.task.name,
        "format": protocol.format,
        "reasoning": protocol.reasoning,
        "condition": "tuned",
        "adapter": "none",  # a trial's adapter is measured and not kept
        "study": name,
        "fingerprint": _fingerprint(config, space, data, session, protocol),
        "data_digest": tracking.data_digest(data.train),
        "dev_digest": tracking.data_digest(data.dev),
        "dtype": session.dtype,
    }
    with lock:
        _refuse_another(study, tags["fingerprint"], config)
    asked = fitted(data, session, protocol, config)
    with ExitStack() as stack:
        with lock:
            folder.mkdir(exist_ok=True)
            work = SearchRun(folder, study)
            parent = stack.enter_context(
                tracking.run("tune", f"tune {name}", config, tags, config.experiment, work)
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


def _fingerprint(
    config: TuneConfig, space: Space, data: SourceData, session: Session, protocol: Protocol
) -> str:
    """All that has to be the same for two trials to be compared."""
    return tracking.fingerprint(
        kind="tune",
        model=session.source.revision,
        data=[tracking.data_digest(split) for split in (data.train, data.dev)],
        prompt=PROMPT_VERSION,
        protocol=asdict(protocol),
        long_inputs=(config.long_inputs, config.max_length),
        dtype=session.dtype,
        seed=config.seed,
        space=space.describe(),
        objective=config.objective,
        measurements=config.measurements,
        pruning=config.pruning,
    )


def _refuse_another(study: optuna.Study, fingerprint: str, config: TuneConfig) -> None:
    """ConfigError if the study was begun with something else, so that values do not compare."""
    begun = study.user_attrs.get("fingerprint")
    if begun is None and not study.get_trials(deepcopy=False):
        study.set_user_attr("fingerprint", fingerprint)
    elif begun != fingerprint:
        raise ConfigError(
            f"study {study.study_name!r} in {config.storage!r} was begun with another model, data, "
            f"space, objective, seed, dtype or pruning, so its trials do not compare with new "
            f"ones; give another study=NAME."
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
            announce(f"{done} of {search.config.trials} trials ended; waiting for other workers")
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
        announce(
            f"trial {taken[0]} was given up by another worker, since this one gave no sign of "
            f"life; its result is dropped"
        )
    except BaseException:
        if taken:
            search.retry(study, study.get_trials()[taken[0]])
        raise
    frozen = study.get_trials()[taken[0]]
    if frozen.state == TrialState.FAIL and "reason" in frozen.user_attrs:
        announce(f"trial {frozen.number} failed: {frozen.user_attrs['reason']}")
    with search.lock, suppress(*UNREACHABLE), few_retries():
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
    study = search.study
    trials = study.get_trials(deepcopy=False)
    try:
        best = study.best_trial
    except ValueError:
        reasons = [trial.user_attrs["reason"] for trial in trials if "reason" in trial.user_attrs]
        raise TrainingError(
            f"none of the {len(trials)} trials of study {study.study_name!r} was completed; the "
            f"last one says: {reasons[-1] if reasons else 'nothing'}"
        ) from None
    states = [trial.state.name.lower() for trial in trials]
    mlflow.log_metrics(
        {f"dev/{search.config.objective}": best.value, "best_trial": best.number}
        | {f"trials/{state}": states.count(state) for state in ("complete", "pruned", "fail")}
    )
    mlflow.log_text(_best_yaml(search, best), BEST)
    table = pd.DataFrame(
        [
            {
                **outcome(trial, {}),
                search.config.objective: trial.value if trial.values else math.nan,
                "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
                **trial.params,
            }
            for trial in trials
        ]
    )
    mlflow.log_text(table.to_csv(index=False), "trials.csv")
    mlflow.log_text(search_page(study, search.config.objective), "search.html")
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
    trials = search.study.get_trials(deepcopy=False)
    counts = Counter(trial.state.name.lower() for trial in trials)
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    print(f"\n{told}; the best is trial {best.number}: {search.config.objective} {best.value:.3f}")
    print(_best_yaml(search, best))
    run_id = search.parent.info.run_id
    print(f"mlflow run . -e finetune -P recipe={run_id}")
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
    work = Work(search.folder / f"trial-{trial.number}")
    work.done()  # what a database that was deleted has left
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
            announce(f"{label}: pruned after {step} steps, {config.objective} {objective:.3f}")
            raise optuna.TrialPruned

    try:
        with tempfile.TemporaryDirectory() as scratch:
            train(
                search.session.model,
                search.data.train,
                search.data.dev,
                search.protocol,
                recipe,
                Path(scratch),
                task=search.data.task.name,
                description=label,
                log=metrics.log,
                measured=measured,
            )
        announce(f"{label}: {config.objective} {objective:.3f}")
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
        "kind": "trial",
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
