"""Fine-tuning by Tinker: a service in place of this process's training loop."""

import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import mlflow
from mlflow.entities import Run

from isogloss import tracking
from isogloss.config.engine import Engine
from isogloss.errors import ModelError, ServerError
from isogloss.files import write_whole
from isogloss.inference.answer_journal import Journal
from isogloss.inference.predict import predict_with
from isogloss.inference.served import Served, UnansweredError
from isogloss.models.adapter_files import adapter_digest
from isogloss.predictions.table import Prediction, frame
from isogloss.registry.lookup import adapter_problem
from isogloss.servers.tinker import TinkerServer, open_tinker
from isogloss.servers.types import ServedAdapter
from isogloss.stages.finetune_plan import FinetunePlan
from isogloss.stages.outside_adapter import (
    OutsideTraining,
    fitted_data,
    log_outside_adapter,
    take_adapter,
)
from isogloss.stages.session import Session
from isogloss.tracking.metric_log import MetricLog
from isogloss.tracking.resume import WorkDir
from isogloss.tracking.server import uploading
from isogloss.tracking.tags import RunKind, prefixed
from isogloss.tracking.versions import versions_text
from isogloss.training.dev_predictions import CONTENT, DEV_PREDICTIONS, content_digest
from isogloss.training.early_stopping import DevScore, dev_score
from isogloss.training.external_data import trainer_items
from isogloss.training.tinker import (
    SavedTraining,
    TinkerJob,
    by_passage,
    read_saved,
    tinker_path,
    train_on_tinker,
)
from isogloss.types import EngineKind, Split

ADAPTER = "last"  # folder of the adapter in a work folder, as after a training in process


def train_on_service(
    plan: FinetunePlan, engine: Engine, session: Session, work: WorkDir, label: str
) -> Run:
    """Train on Tinker in a new run, or in the run that an interrupted process left.

    Raises TrainingError if the service does not train, and ModelError for an adapter that cannot
    be used.
    """
    config, task, recipe = plan.config, plan.data.task, plan.recipe
    data, tokenizer = fitted_data(plan, session)
    training = OutsideTraining(plan, data, tokenizer, label, EngineKind.TINKER, "Tinker")
    rows = trainer_items(data.train, plan.protocol, tokenizer).tokens
    job = TinkerJob(
        engine=engine,
        passages=by_passage(data.train, rows),
        recipe=recipe,
        folder=work.folder,
        description=label,
        checkpoint_every=config.checkpoint_every,
    )
    name = plan.run_name
    versions = versions_text({"tinker": importlib.metadata.version("tinker")})
    tags = plan.tags.as_dict() | {"trainer": training.trainer, "trainer_versions": versions}
    with tracking.open_run(RunKind.FINETUNE, name, config, tags, config.experiment, work) as run:
        run_id = run.info.run_id
        mlflow.log_params({f"recipe.{key}": value for key, value in asdict(recipe).items()})
        tracking.log_items(plan.data.train, task.name, Split.TRAIN)
        tracking.log_items(plan.data.dev, task.name, Split.DEV)
        folder = work.folder / ADAPTER
        with MetricLog(work.folder, lambda: run_id) as metrics:

            def log(step: int, values: Mapping[str, float]) -> None:
                work.lease.require()
                metrics.log(step, values)

            if not folder.is_dir():
                with tempfile.TemporaryDirectory(dir=work.folder) as scratch:
                    train_on_tinker(job, Path(scratch), log)
                    names = (engine.name or "",)
                    take_adapter(training, session, Path(scratch), folder, names)
            dev = _measure(training, engine, session, folder, log)
        work.lease.require()
        with uploading(work.folder):
            tracking.require_first(RunKind.FINETUNE, plan.fingerprint, run, work, adapter_problem)
            _log_usage(engine, read_saved(work.folder))
            log_outside_adapter(training, session, folder, dev)
    return mlflow.get_run(run_id)


def _measure(
    training: OutsideTraining,
    engine: Engine,
    session: Session,
    folder: Path,
    log: Callable[[int, Mapping[str, float]], None],
) -> DevScore:
    """Score the dev items without and with the adapter, on the service; log both scores.

    Raises ServerError for items without an answer, and ModelError for an adapter without effect.
    """
    plan = training.plan
    digest = adapter_digest(folder)
    adapter = ServedAdapter(digest, folder, tinker_path(folder))
    before = _predicted(training, session, open_tinker(engine), folder.parent / "dev-base.jsonl")
    tuned = open_tinker(engine, adapter)
    after = _predicted(training, session, tuned, folder.parent / f"dev-{digest[:16]}.jsonl")
    if all(
        one.choice_logprobs == other.choice_logprobs and one.text == other.text
        for one, other in zip(before, after, strict=True)
    ):
        raise ModelError(
            f"the adapter {tuned.model!r} on Tinker changes no answer about {len(after)} dev "
            "items; expected one that was trained."
        )
    for step, predictions in ((0, before), (plan.recipe.steps, after)):
        score = dev_score(predictions)
        log(step, {f"dev/{name}": value for name, value in score._asdict().items()})
    table = frame(after)
    table[CONTENT] = list(map(content_digest, training.data.dev))
    write_whole(folder / DEV_PREDICTIONS, table.to_parquet(index=False))
    return score


def _predicted(
    training: OutsideTraining, session: Session, server: TinkerServer, journal: Path
) -> list[Prediction]:
    items = training.data.dev
    backend = Served(session.tokenizer, server, Journal(journal), items)
    try:
        return predict_with(backend, items, training.plan.protocol, training.data.task.name)
    except UnansweredError as error:
        raise ServerError(
            f"no answer about {error.count} of {len(items)} dev items ({error}); the same command "
            "asks about these and keeps the adapter."
        ) from error


def _log_usage(engine: Engine, saved: SavedTraining) -> None:
    """Log what was trained on and where the service has the adapter to the open run."""
    values = {"train/tokens": float(saved.tokens)}
    if engine.price_train is not None:
        values["train/cost"] = saved.tokens * engine.price_train / 1e6
    tracking.log_metrics_once(values)
    mlflow.set_tags(prefixed({"trainer_weights": saved.weights or ""}))
