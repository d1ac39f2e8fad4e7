"""Evaluation through an inference server: what is checked before the first item, and counted after.

A server that would score at chance without a word, or the base model in place of an adapter, is
found out by a prompt whose answer is known to depend on what is asked.
"""

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow.entities import Run

from isogloss.compat.interfaces import Tokenizer
from isogloss.config.engine import Engine
from isogloss.errors import ModelError
from isogloss.files import make_cache_dir, whole_folder
from isogloss.inference.answer_journal import Journal, usage_of
from isogloss.inference.context_window import Fitted, fit
from isogloss.inference.predict import predict_with
from isogloss.inference.progress import Progress
from isogloss.inference.served import Served, tells_logprobs
from isogloss.models.adapter_files import (
    CONFIG,
    WEIGHTS,
    adapter_digest,
    check_base,
    check_chat_template,
    check_tokens,
    read_adapter,
)
from isogloss.models.locate import ModelLocation
from isogloss.predictions.table import Prediction
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import Prompt, prompt
from isogloss.prompts.tokenisation import encode, prefix_tokens
from isogloss.registry.lookup import AdapterRef
from isogloss.servers.evaluating import EvaluatingServer
from isogloss.servers.opening import open_server
from isogloss.servers.probe import first_answer, probe, probe_scores, refusal
from isogloss.servers.server import Server
from isogloss.servers.types import ServedAdapter
from isogloss.servers.wire import Context
from isogloss.stages.evaluation_plan import Evaluation, check_training_data
from isogloss.stages.served_model import ServedModel
from isogloss.stages.served_weights import Answer, likeliest, other_weights, stored
from isogloss.stages.session import AUTO, Session
from isogloss.tasks import Item
from isogloss.tracking import tag
from isogloss.training.contamination import TrainingRecord, read_record
from isogloss.training.tinker import tinker_path
from isogloss.types import EngineKind, Format, Reasoning

TRIED_ITEMS = 8  # whose texts show an adapter where a server tells no log-probabilities
TRIED_TOKENS = 16


@dataclass(frozen=True)
class OnServer:
    """A server that is ready to answer about the items of an evaluation."""

    session: Session
    server: EvaluatingServer
    fitted: Fitted
    window: int
    record: TrainingRecord | None
    answer: Answer  # to the prompt of the first item

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
    server = _answering(served, folder)
    _check_scores(server, evaluation.protocol)
    window = served.window(evaluation.config.max_length)
    fitted = fit(
        evaluation.all_items,
        session.tokenizer,
        evaluation.protocol,
        window,
        evaluation.config.long_inputs,
    )
    answer = _checked_answer(evaluation, session, served.server, server if folder else None)
    return OnServer(session, server, fitted, window, record, answer)


def problem_on_server(
    evaluation: Evaluation, session: Session, adapter: AdapterRef | None, run: Run
) -> str | None:
    """As a clause, why the server would not give a finished run's result again; None if it may."""
    then = tag(run, "server_answer")
    if session.served is None or then is None:
        return None
    with adapter.folder() if adapter else nullcontext() as folder:
        server = _answering(session.served, folder)
    if not isinstance(server, Server) or not tells_logprobs(server):
        return None
    asked = _first_prompts(evaluation, session, 1)
    encoded = encode(session.tokenizer, asked, chat=evaluation.protocol.chat)[0]
    now = likeliest(first_answer(server, encoded, asked[0]).logprobs)
    return other_weights(stored(then), now)


def _answering(served: ServedModel, folder: Path | None) -> EvaluatingServer:
    """The server, answering with the adapter in a folder if there is one."""
    return open_server(served.engine, _offered(served, folder)) if folder else served.server


def _first_prompts(evaluation: Evaluation, session: Session, count: int) -> list[Prompt]:
    """The prompts of the first items, without reasoning before the answer."""
    protocol = replace(evaluation.protocol, reasoning=Reasoning.DIRECT)
    return [prompt(item, protocol, session.tokenizer) for item in evaluation.all_items[:count]]


def _checked_answer(
    evaluation: Evaluation,
    session: Session,
    base: EvaluatingServer,
    tuned: EvaluatingServer | None,
) -> Answer:
    """The answer to the first item, empty if the server tells no log-probabilities of tokens.

    Raises ModelError for a server whose answers cannot be used.
    """
    tokenizer, chat = session.tokenizer, evaluation.protocol.chat
    asked = _first_prompts(evaluation, session, TRIED_ITEMS)
    if not tells_logprobs(base):
        if tuned:
            _check_texts(base, tuned, tokenizer, asked, chat=chat)
        return {}
    encoded = encode(tokenizer, asked[:1], chat=chat)[0]
    if isinstance(base, Server) and (tuned is None or isinstance(tuned, Server)):
        findings = probe(base, encoded, asked[0], tuned=tuned)
    else:
        labels = evaluation.protocol.shows_options
        findings = probe_scores(base, encoded, asked[0], tuned, labels=labels)
    # Of generated answers neither labels nor the first token decide.
    if evaluation.protocol.format == Format.GENERATE:
        reasons = findings.reasons and evaluation.protocol.reasoning == Reasoning.DIRECT
        findings = replace(findings, labels=None, reasons=reasons)
    if reason := refusal(findings):
        raise ModelError(reason)
    return likeliest(findings.answer.logprobs) if findings.answer else {}


def _check_texts(
    base: EvaluatingServer,
    tuned: EvaluatingServer,
    tokenizer: Tokenizer,
    asked: Sequence[Prompt],
    *,
    chat: bool,
) -> None:
    """Raise ModelError if a server without log-probabilities answers all prompts as its base."""
    prefix = prefix_tokens(tokenizer, chat)
    ids = tokenizer([entry.context for entry in asked], add_special_tokens=False).input_ids
    contexts = [
        Context([*prefix, *tokens], entry.context) for tokens, entry in zip(ids, asked, strict=True)
    ]
    texts = [dict(server.generate(contexts, TRIED_TOKENS)) for server in (base, tuned)]
    if texts[0] == texts[1]:
        raise ModelError(
            f"the server gives {len(asked)} prompts the same texts with adapter {tuned.model!r} as "
            "without it; expected a server that applies it."
        )


def _check_scores(server: EvaluatingServer, protocol: Protocol) -> None:
    """Raise ModelError if the server does not tell what the predictions of a protocol rest on."""
    if protocol.format == Format.GENERATE:
        return
    if not tells_logprobs(server):
        raise ModelError(
            f"the server of model {server.model!r} tells no log-probabilities, which format "
            f"{str(protocol.format)!r} needs; expected format=generate."
        )
    if protocol.shows_options or not isinstance(server, Server):
        return
    if server.wire.given_text is None:
        raise ModelError(server.wire.no_given_text)


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
    name = served.engine.adapter or tinker_path(folder) or _listed(served.server, digest)
    return ServedAdapter(digest, _kept(folder, digest), name)


def _listed(server: EvaluatingServer, digest: str) -> str | None:
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
    kept = make_cache_dir() / "served-adapters" / digest
    if not kept.is_dir():
        with whole_folder(kept) as part:
            for name in (CONFIG, WEIGHTS):
                shutil.copy(folder / name, part / name)
    return kept


def server_metrics(engine: Engine, work: Path) -> dict[str, float]:
    """What an evaluation took from its server, in all processes that worked on it."""
    usage = usage_of(work.glob("*.jsonl"))
    values = {"server/requests": float(usage.requests)}
    if engine.kind != EngineKind.TINKER:  # whose SDK does not count its repetitions
        values["server/retries"] = float(usage.retries)
    values |= {
        "server/prompt_tokens": float(usage.prompt_tokens),
        "server/generated_tokens": float(usage.generated_tokens),
    }
    cost = engine.cost(usage.prompt_tokens, usage.generated_tokens)
    return values if cost is None else values | {"server/cost": cost}
