"""Opening a server: what it is, what it serves, and which of its models and adapters answers."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from isogloss.config.engine import Engine
from isogloss.errors import ModelError
from isogloss.servers.client import Client, Counts, NoAnswerError, RefusedError, opened
from isogloss.servers.completion import completed
from isogloss.servers.server import Server
from isogloss.servers.types import Failure, PromptsAs, ServedAdapter, ServerFacts
from isogloss.servers.vllm import VLLM
from isogloss.servers.wire import Call, Context, Target, read
from isogloss.types import EngineKind

T = TypeVar("T")

MODELS = Call("/v1/models")
RETRIES = 2  # of each question, at most: an address without a server is a mistake
TOPS = (20, 5, 1)  # most likely tokens to ask for: the limits of vLLM, of OpenAI, of some others
SOME_IDS = (3, 4, 5, 6)  # of tokens that every vocabulary has


class _Version(BaseModel):
    version: str


class _Card(BaseModel):
    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class _Models(BaseModel):
    data: tuple[_Card, ...]


def open_server(engine: Engine, adapter: ServedAdapter | None = None) -> Server:
    """Ask a server what it is and return it, answering with the engine's model or the adapter.

    Raises ModelError if there is no such server, model or adapter.
    """
    counts = Counts()

    async def target(client: Client) -> Target:
        facts = await _facts_of_vllm(client)
        name = _name(engine, facts)
        if adapter is None:
            return Target(facts, name)
        return Target(facts, name, await _adapter_name(client, facts, adapter))

    return Server(engine, VLLM, _asked(engine, counts, target), counts)


def _asked(engine: Engine, counts: Counts, job: Callable[[Client], Awaitable[T]]) -> T:
    """Do one job on a server. Raises ModelError without an answer."""
    few = engine.model_copy(update={"retries": min(engine.retries, RETRIES)})
    server = f"the server at {engine.base_url}"
    ((_, result),) = completed(opened(few, counts), [job], 1, server)
    if isinstance(result, Failure):
        raise ModelError(f"{server} does not answer as {engine.kind} does: {result.reason}.")
    return result


async def _facts_of_vllm(client: Client) -> ServerFacts:
    version = await client.ask(Call("/version"), lambda answer: read(answer, _Version))
    models = await client.ask(MODELS, lambda answer: read(answer, _Models))
    lengths = [card.max_model_len for card in models.data if card.max_model_len]
    facts = ServerFacts(
        kind=EngineKind.VLLM,
        version=version.version,
        models={card.id: card.root for card in models.data},
        bases=tuple(card.id for card in models.data if card.parent is None),
        context_length=min(lengths, default=None),
        prompts=PromptsAs.IDS,
        top=1,
        exact=True,
    )
    return await _with_top(client, facts)


async def _with_top(client: Client, facts: ServerFacts) -> ServerFacts:
    """Return the facts with the largest number of most likely tokens that the server accepts.

    And with whether it returns the log-probabilities of the tokens that are asked for.
    """
    context = Context(SOME_IDS[:2], "")
    for top in TOPS:
        tried = replace(facts, top=top)
        call = VLLM.next_token(Target(tried, facts.bases[0]), context, SOME_IDS)
        try:
            answer = await client.ask(call, VLLM.read_next)
        except RefusedError as error:
            refused = error
            continue
        return replace(tried, exact=set(SOME_IDS) <= answer.logprobs.keys())
    raise refused


def _name(engine: Engine, facts: ServerFacts) -> str:
    """Return the server's name of the engine's model: its only one by default."""
    names = ", ".join(map(repr, facts.models))
    if engine.name is not None:
        if engine.name in facts.models:
            return engine.name
        raise ModelError(
            f"the server at {engine.base_url} has no model {engine.name!r}; expected {names}."
        )
    if len(facts.bases) != 1:
        raise ModelError(
            f"the server at {engine.base_url} has {len(facts.bases)} models; expected engine.name "
            f"to be one of them: {names}."
        )
    return facts.bases[0]


async def _adapter_name(client: Client, facts: ServerFacts, adapter: ServedAdapter) -> str:
    """Return the server's name of an adapter, which it loads from its folder if it has it not."""
    if adapter.name is not None:
        if adapter.name in facts.models:
            return adapter.name
        raise ModelError(
            f"the server has no adapter {adapter.name!r}; expected one of "
            f"{', '.join(map(repr, facts.models))}."
        )
    if adapter.loaded_name in facts.models:
        return adapter.loaded_name
    if adapter.folder is not None:
        folder = adapter.folder.resolve()
        for name, origin in facts.models.items():
            if name not in facts.bases and origin is not None and Path(origin).resolve() == folder:
                return name
        body = {"lora_name": adapter.loaded_name, "lora_path": str(folder)}
        try:
            await client.ask(Call("/v1/load_lora_adapter", body), bytes)
        except (RefusedError, NoAnswerError) as error:
            raise ModelError(
                f"the server does not load the adapter {str(folder)!r} ({error}); expected a vLLM "
                "started with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or with the "
                "adapter in --lora-modules."
            ) from error
        return adapter.loaded_name
    raise ModelError("the server has no such adapter; expected its name in engine.adapter.")
