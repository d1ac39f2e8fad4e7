"""Tuning: an Optuna search for a training recipe, judged in the source language alone."""

import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import optuna
import yaml
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from isogloss import tracking
from isogloss.config import TuneConfig
from isogloss.errors import ConfigError
from isogloss.finetuning import SourceData, fitted, source_data
from isogloss.languages import language
from isogloss.progress import announce
from isogloss.prompts import PROMPT_VERSION, Protocol
from isogloss.session import Session
from isogloss.training import Recipe, train


def run_tune(config: TuneConfig) -> None:
    """The entry point `tune`: reach the number of finished trials, print the best recipe."""
    if config.min_learning_rate > config.max_learning_rate:
        raise ConfigError(
            f"min_learning_rate {config.min_learning_rate} is above max_learning_rate "
            f"{config.max_learning_rate}."
        )
    data = source_data(config)
    task = data.task
    session = Session(config.model, config.dtype)
    protocol = session.protocol(config, task)
    name = config.study or f"{task.name}-{config.source}-{protocol.format}-{config.model}"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=name,
        storage=_storage(config.storage),
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=config.seed),
    )
    tags = {
        "model": config.model,
        "source": config.source,
        "task": task.name,
        "format": protocol.format,
        "reasoning": protocol.reasoning,
        "condition": "tuned",
        "adapter": "none",  # a trial's adapter is measured and not kept
        "study": name,
        "fingerprint": tracking.fingerprint(
            kind="tune",
            model=session.source.revision,
            data=[tracking.data_digest(split) for split in (data.train, data.dev)],
            prompt=PROMPT_VERSION,
            protocol=asdict(protocol),
            dtype=session.dtype,
            config=config.model_dump(mode="json"),
        ),
    }
    done = len(study.get_trials(states=(TrialState.COMPLETE,)))
    announce(f"study {name}: {done} of {config.trials} trials finished")
    asked = fitted(data, session, protocol, config)
    with tracking.run("tune", f"tune {name}", config, tags, config.experiment):
        for _ in range(config.trials - done):
            trial = study.ask()
            try:
                value = _trial(trial, config, session, protocol, tags, asked)
            except BaseException:
                study.tell(trial, state=TrialState.FAIL)
                raise
            study.tell(trial, value)
        best = study.best_trial
        recipe = _training(best, config)
        mlflow.log_metrics({"dev/accuracy": best.value or 0.0, "best_trial": best.number})
        mlflow.log_text(yaml.safe_dump({"finetune": recipe}, sort_keys=False), "best.yaml")
    print(f"\nbest of {len(study.get_trials(states=(TrialState.COMPLETE,)))} trials: ", end="")
    print(f"dev accuracy {best.value:.3f} with\n{yaml.safe_dump({'finetune': recipe})}")


def _storage(storage: str) -> BaseStorage:
    """A journal file, or any database that SQLAlchemy reaches where `storage` is a URL."""
    if "://" in storage:
        return RDBStorage(storage)
    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(storage))


def _training(trial: FrozenTrial | optuna.Trial, config: TuneConfig) -> dict[str, Any]:
    """The part of a study file's `finetune` that a trial decides, with what was held fixed."""
    rank = int(trial.params["rank"])
    return {
        "learning_rate": float(trial.params["learning_rate"]),
        "rank": rank,
        "alpha": 2 * rank,
        "steps": config.steps,
        "batch_size": config.batch_size,
    }


def _trial(
    trial: optuna.Trial,
    config: TuneConfig,
    session: Session,
    protocol: Protocol,
    tags: dict[str, str],
    data: SourceData,
) -> float:
    """Train with the recipe that Optuna suggests; dev accuracy in the source language."""
    trial.suggest_float(
        "learning_rate", config.min_learning_rate, config.max_learning_rate, log=True
    )
    trial.suggest_categorical("rank", config.ranks)
    recipe = Recipe(**_training(trial, config), seed=config.seed, eval_every=config.steps)
    labels = tags | {
        "fingerprint": tracking.fingerprint(tune=tags["fingerprint"], recipe=asdict(recipe))
    }
    label = f"trial {trial.number} · {language(config.source).name}"
    measured = math.nan

    def log(step: int, metrics: dict[str, float]) -> None:
        nonlocal measured
        mlflow.log_metrics(metrics, step=step)
        measured = metrics.get("dev/accuracy", measured)

    with (
        tracking.run("trial", f"trial {trial.number}", config, labels, None),
        tempfile.TemporaryDirectory() as scratch,
    ):
        mlflow.log_params({f"recipe.{key}": value for key, value in asdict(recipe).items()})
        train(
            session.model,
            data.train,
            data.dev,
            protocol,
            recipe,
            Path(scratch) / "adapter",
            task=data.task.name,
            description=label,
            log=log,
        )
    announce(f"{label}: dev accuracy {measured:.3f} with {_training(trial, config)}")
    return measured
