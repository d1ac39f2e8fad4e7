"""Evaluation through an inference server: what is checked before the first item, and counted after.

A server that would score at chance without a word, or the base model in place of an adapter, is
found out by a prompt whose answer is known to depend on what is asked.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isogloss.config.engine import Engine
from isogloss.errors import ModelError
from isogloss.files import cache_dir, whole_folder
from isogloss.inference.answer_journal import Journal, usage_of
from isogloss.inference.context_window import Fitted, fit
from isogloss.inference.predict import predict_with
from isogloss.inference.progress import Progress
from isogloss.inference.served import Served
from isogloss.models.adapter_files import (
    CONFIG,
    WEIGHTS,
    check_base,
    check_chat_template,
    check_tokens,
    read_adapter,
)
from isogloss.models.adapters import adapter_digest
from isogloss.models.locate import ModelLocation
from isogloss.predictions.table import Prediction
from isogloss.servers.opening import open_server
from isogloss.servers.server import Server
from isogloss.servers.types import ServedAdapter
from isogloss.stages.evaluation_plan import Evaluation, check_training_data
from isogloss.stages.served_model import ServedModel
from isogloss.stages.session import AUTO, Session
from isogloss.tasks import Item
from isogloss.training.contamination import TrainingRecord, read_record


@dataclass(frozen=True)
class OnServer:
    """A server that is ready to answer about the items of an evaluation."""

    session: Session
    server: Server
    fitted: Fitted
    window: int
    record: TrainingRecord | None

    def predict(
        self, evaluation: Evaluation, items: Sequence[Item], journal: Path, progress: Progress
    ) -> list[Prediction]:
        """Predict items of one language. Answers that are in the journal are not asked for again.

        Raises UnansweredError for items without an answer.
        """
        backend = Served(self.session.tokenizer, self.server, Journal(journal), items)
        return predict_with(
            backend,
            items,
            evaluation.protocol,
            evaluation.task.name,
            shortened=self.fitted.shortened,
            progress=progress,
        )


def ready_on_server(
    evaluation: Evaluation, session: Session, served: ServedModel, folder: Path | None
) -> OnServer:
    """Check that a server can answer about an evaluation, with the adapter in a folder if any.

    Raises DataError and ConfigError for items or an adapter that do not suit the evaluation, and
    ModelError for a server or an adapter that cannot be used.
    """
    record = check_served_adapter(evaluation, session, served, folder) if folder else None
    adapter = _offered(served, folder) if folder else None
    server = open_server(served.engine, adapter) if adapter else served.server
    window = served.window(evaluation.config.max_length)
    fitted = fit(
        evaluation.all_items,
        session.tokenizer,
        evaluation.protocol,
        window,
        evaluation.config.long_inputs,
    )
    return OnServer(session, server, fitted, window, record)


def check_served_adapter(
    evaluation: Evaluation, session: Session, served: ServedModel, folder: Path
) -> TrainingRecord | None:
    """Check the files of an adapter that a server is to apply; return its training record.

    Raises what `attach_checked` raises of these.
    """
    record = read_record(folder)
    check_training_data(record, evaluation)
    files = read_adapter(folder)
    if evaluation.config.chat == AUTO:
        check_chat_template(folder, session.tokenizer)
    # A server has no hash of its weights: names decide whether the base is the same.
    base = ModelLocation(served.served_name, folder, f"served by {served.provider}")
    check_base(files, base, (*(evaluation.config.allow_base or ()), *served.base_names))
    check_tokens(files, session.tokenizer)
    return record


def _offered(served: ServedModel, folder: Path) -> ServedAdapter:
    """The adapter as the server is to find it: by name, or as a folder to load it from."""
    digest = adapter_digest(folder)
    name = served.engine.adapter or _listed(served.server, digest)
    return ServedAdapter(digest, _kept(folder, digest), name)


def _listed(server: Server, digest: str) -> str | None:
    """The server's name of an adapter that it has from a folder with the same content."""
    for name, origin in server.facts.models.items():
        if origin is None or name in server.facts.bases:
            continue
        try:
            if adapter_digest(Path(origin)) == digest:
                return name
        except (ModelError, OSError):  # a folder of another machine
            continue
    return None


def _kept(folder: Path, digest: str) -> Path:
    """A copy of an adapter that stays: a server may read the files again at any time."""
    kept = cache_dir() / "served-adapters" / digest
    if not kept.is_dir():
        with whole_folder(kept) as part:
            for name in (CONFIG, WEIGHTS):
                shutil.copy(folder / name, part / name)
    return kept


def server_metrics(engine: Engine, work: Path) -> dict[str, float]:
    """What an evaluation took from its server, in all processes that worked on it."""
    usage = usage_of(work.glob("*.jsonl"))
    values = {
        "server/requests": float(usage.requests),
        "server/retries": float(usage.retries),
        "server/prompt_tokens": float(usage.prompt_tokens),
        "server/generated_tokens": float(usage.generated_tokens),
    }
    if engine.price_in is not None or engine.price_out is not None:
        paid_in = usage.prompt_tokens * (engine.price_in or 0)
        values["server/cost"] = (paid_in + usage.generated_tokens * (engine.price_out or 0)) / 1e6
    return values
