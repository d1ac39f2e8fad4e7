"""Fine-tuning: one adapter on the source language, as one MLflow run."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import mlflow
from mlflow.entities import Run

from isogloss import tracking
from isogloss.config import FinetuneConfig
from isogloss.models.adapter_files import adapter_digest
from isogloss.registry.logging import AdapterBase, TrainedAdapter, log_adapter
from isogloss.registry.lookup import DEV_ACCURACY, adapter_problem
from isogloss.registry.register import check_registrable, register
from isogloss.stages.external_training import train_outside
from isogloss.stages.finetune_plan import FinetunePlan, plan_finetune
from isogloss.stages.quick import quick_finetune
from isogloss.stages.run_names import finished_words
from isogloss.stages.session import Session
from isogloss.stages.tinker_training import train_on_service
from isogloss.stages.training_inputs import fit_source_data
from isogloss.tracking.metric_log import MetricLog
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.search import existing_run
from isogloss.tracking.server import uploading
from isogloss.tracking.tags import RunKind, prefixed
from isogloss.training.checkpoints import CHECKPOINT
from isogloss.training.loop import TrainingJob, TrainingResult, recipe_lora_config, train
from isogloss.training.recipe import Recipe
from isogloss.types import EngineKind, Split

logger = logging.getLogger(__name__)


def finetune(config: FinetuneConfig, session: Session, label: str = "finetune") -> Run:
    """Train an adapter and return its run; reuses the finished run of the same training.

    An interrupted training resumes in its run. The run's tags `isogloss.last_uri` and
    `isogloss.best_uri` name the logged models of the adapters after the last step and after the
    best dev measurement, `isogloss.adapter_uri` the one that `config.keep` selects, and
    `isogloss.adapter` is the digest of that one.
    """
    plan = plan_finetune(config, session)
    registered = None if config.register_as == "auto" else config.register_as
    if config.register_as is not None:
        check_registrable(registered, plan.data.task.name, config.source)
    with tracking.reuse_or_lock(
        RunKind.FINETUNE, plan.fingerprint, config.experiment, config.study, adapter_problem
    ) as (work, run):
        if run is None:
            engine = session.served.engine if session.served else config.engine
            if engine and engine.kind == EngineKind.TINKER:
                run = train_on_service(plan, engine, session, work, label)
            elif engine and engine.train:
                run = train_outside(plan, engine.train, session, work, label)
            else:
                run = _train(plan, session, work, label)
        else:
            logger.info(f"{label}: reusing run {finished_words(run)}")
    if config.register_as is not None:
        version = register(run.data.tags["isogloss.adapter_uri"], registered, "candidate")
        logger.info(f"{version.uri}: {version.message}")
    if DEV_ACCURACY in run.data.metrics:
        logger.info(f"{label}: {_dev_words(run, config, len(plan.data.dev))}")
    return run


def _dev_words(run: Run, config: FinetuneConfig, n_items: int) -> str:
    """The dev accuracy of the adapter that is kept, with its step."""
    measured = {
        metric.step: metric.value
        for metric in mlflow.MlflowClient().get_metric_history(run.info.run_id, DEV_ACCURACY)
    }
    best = run.data.tags.get("isogloss.best_step")
    step = int(best) if best is not None and config.keep == "best" else max(measured)
    accuracy = measured.get(step, run.data.metrics[DEV_ACCURACY])
    return f"dev accuracy {accuracy:.3f} on {n_items} items; the adapter of step {step} is kept"


def _train(plan: FinetunePlan, session: Session, work: WorkDir, label: str) -> Run:
    """Train in a new run, or in the run that an interrupted process left."""
    config, recipe, task = plan.config, plan.recipe, plan.data.task
    fitted = fit_source_data(plan.data, session.model, plan.protocol, config)
    recipe_lora_config(session.model, recipe)  # rejects a recipe before there is a run
    job = TrainingJob(
        task=task.name,
        train_items=fitted.train,
        dev_items=fitted.dev,
        protocol=plan.protocol,
        recipe=recipe,
        folder=work.folder,
        description=label,
        checkpoint_every=config.checkpoint_every,
        gradient_checkpointing=config.gradient_checkpointing,
    )
    _begin_again_if_changed(work, recipe)
    resumed = work.run_id is not None
    name = plan.run_name
    tags = plan.tags.as_dict()
    with tracking.open_run(RunKind.FINETUNE, name, config, tags, config.experiment, work) as run:
        run_id = run.info.run_id
        mlflow.log_params({f"recipe.{key}": value for key, value in asdict(recipe).items()})
        tracking.log_items(plan.data.train, task.name, Split.TRAIN)
        tracking.log_items(plan.data.dev, task.name, Split.DEV)
        if resumed and not (work.folder / CHECKPOINT).is_file():
            logger.info(f"{label}: no checkpoint was kept, beginning at step 1 of {recipe.steps}")
        with MetricLog(work.folder, lambda: run_id) as metrics:

            def log(step: int, values: Mapping[str, float]) -> None:
                work.lease.require()
                metrics.log(step, values)

            result = train(session.model, job, log=log)
        if result.last_step < recipe.steps:
            logger.info(f"{label}: stopped early, after step {result.last_step}")
        work.lease.require()
        with uploading(work.folder):
            tracking.require_first(RunKind.FINETUNE, plan.fingerprint, run, work, adapter_problem)
            _log_adapters(result, plan, session)
    return mlflow.get_run(run_id)


def _begin_again_if_changed(work: WorkDir, recipe: Recipe) -> None:
    """Delete what an interrupted training left that measured at other steps than this one.

    Its run has that interval as a parameter, which cannot be changed.
    """
    if work.run_id is None:
        return
    run = existing_run(work.run_id)
    if run is None:
        return
    params = run.data.params
    if params.get("recipe.eval_every", str(recipe.eval_every)) != str(recipe.eval_every):
        logger.warning(
            f"the training of run {work.run_id} was interrupted and measured every "
            f"{params['recipe.eval_every']} steps, not {recipe.eval_every}; it begins again"
        )
        work.delete()
        work.folder.mkdir()


def _log_adapters(result: TrainingResult, plan: FinetunePlan, session: Session) -> None:
    """Log the last adapter to the open run as a model, and the best one if it is another."""
    config = plan.config
    adapters = {
        result.last: (result.dev, result.last_step),
        result.best: (result.best_dev, result.best_step),
    }
    uris: dict[Path, str] = {
        folder: log_adapter(
            TrainedAdapter(
                folder, step, dev, config, plan.protocol, plan.tags, plan.data.task.own_texts
            ),
            AdapterBase.of(session.model, config.max_length),
        )
        for folder, (dev, step) in adapters.items()
    }
    selected = result.best if config.keep == "best" else result.last
    mlflow.set_tags(
        prefixed(
            {
                "last_uri": uris[result.last],
                "best_uri": uris[result.best],
                "best_step": str(result.best_step),
                "adapter": adapter_digest(selected),
                "adapter_uri": uris[selected],
            }
        )
    )


def run_finetune(config: FinetuneConfig) -> str:
    """The entry point `finetune`; returns the id of its run."""
    if config.quick:
        config = quick_finetune(config)
    run = finetune(config, Session.of(config))
    metrics, tags = run.data.metrics, run.data.tags
    if DEV_ACCURACY in metrics:
        print(f"dev accuracy in {config.source}: {metrics[DEV_ACCURACY]:.3f}")
    print(f"adapter {tags['isogloss.adapter_uri']}")
    print(f"run {run.info.run_id}")
    return str(run.info.run_id)
