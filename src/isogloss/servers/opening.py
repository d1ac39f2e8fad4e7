"""Opening a server: which of its models and adapters answers, or why none does."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from isogloss.config.engine import Engine
from isogloss.errors import ModelError
from isogloss.servers.client import Client, Counts, NoAnswerError, RefusedError
from isogloss.servers.completion import ask_once
from isogloss.servers.evaluating import EvaluatingServer
from isogloss.servers.facts import FACTS, SIGNS, WIRES
from isogloss.servers.server import Server
from isogloss.servers.tinker import open_tinker
from isogloss.servers.types import ServedAdapter, ServerFacts
from isogloss.servers.wire import Call, Target, read
from isogloss.types import EngineKind

T = TypeVar("T")

RETRIES = 2  # of each question, at most: an address without a server is a mistake
# Where a kind loads an adapter from a folder that it can read, and what it must be started with.
LOADING: Mapping[EngineKind, tuple[str, str]] = {
    EngineKind.VLLM: (
        "/v1/load_lora_adapter",
        "a server started with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or with "
        "the adapter in --lora-modules",
    ),
    EngineKind.SGLANG: (
        "/load_lora_adapter",
        "a server started with --enable-lora, or with the adapter in --lora-paths",
    ),
}


def open_server(engine: Engine, adapter: ServedAdapter | None = None) -> EvaluatingServer:
    """Ask a server what it is and return it, answering with the engine's model or the adapter.

    Raises ModelError if there is no such server, model or adapter.
    """
    if engine.kind == EngineKind.TINKER:
        return open_tinker(engine, adapter)
    counts = Counts()

    async def target(client: Client) -> Target:
        facts = await FACTS[engine.kind](client, engine.name)
        name = _name(engine, facts)
        if adapter is None:
            return Target(facts, name)
        return Target(facts, name, await _adapter_name(client, facts, adapter))

    asked = _asked(engine, counts, target)
    facts = asked.facts
    return Server(engine, WIRES[facts.kind, facts.prompts], asked, counts)


def found_kind(base_url: str) -> EngineKind:
    """Return the kind of the server at an address.

    Raises ModelError if no server of a known kind answers there.
    """
    engine = Engine(kind=EngineKind.OPENAI, base_url=base_url)

    async def kind(client: Client) -> EngineKind:
        reason = ""
        for found, (call, sign) in SIGNS.items():
            try:
                await client.ask(call, partial(read, model=sign))
            except (RefusedError, NoAnswerError) as error:
                if isinstance(error, NoAnswerError) and error.unreachable:
                    raise
                if isinstance(error, RefusedError) and error.status in (401, 403):
                    raise
                reason = str(error)
                continue
            return found
        raise ModelError(
            f"the server at {base_url} does not answer as any of {', '.join(SIGNS)} does, at last "
            f"with {reason}; expected the address of an inference server, up to and including /v1."
        )

    return _asked(engine, Counts(), kind)


def _asked(engine: Engine, counts: Counts, job: Callable[[Client], Awaitable[T]]) -> T:
    few = engine.model_copy(update={"retries": min(engine.retries, RETRIES)})
    return ask_once(few, counts, job)


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
    adapters = {name: origin for name, origin in facts.models.items() if name not in facts.bases}
    if adapter.name is not None:
        return _named_adapter(adapter.name, facts, adapters)
    if adapter.loaded_name in adapters:
        return adapter.loaded_name
    folder = None if adapter.folder is None else adapter.folder.resolve()
    for name, origin in adapters.items():
        if folder is not None and origin is not None and Path(origin).resolve() == folder:
            return name
    if folder is None or facts.kind not in LOADING:
        raise ModelError(
            f"a server of kind {facts.kind} loads no adapter from a folder; expected the server's "
            f"own name of it in engine.adapter ({_listed(adapters)})."
        )
    path, needed = LOADING[facts.kind]
    try:
        await client.ask(
            Call(path, {"lora_name": adapter.loaded_name, "lora_path": str(folder)}), bytes
        )
    except (RefusedError, NoAnswerError) as error:
        raise ModelError(
            f"the server does not load the adapter {str(folder)!r} ({error}); expected {needed}."
        ) from error
    return adapter.loaded_name


def _named_adapter(name: str, facts: ServerFacts, adapters: Mapping[str, str | None]) -> str:
    """Return the adapter of that name, or of that file name if the server names it by its path."""
    # Not every server lists adapters as such: on some they are models like others.
    known = adapters or facts.models
    if name in known:
        return name
    same_file = [other for other in known if Path(other).name == name]
    if len(same_file) == 1:
        return same_file[0]
    raise ModelError(f"the server has no adapter {name!r}; expected {_listed(known)}.")


def _listed(names: Mapping[str, str | None]) -> str:
    return ", ".join(map(repr, names)) if names else "it has none"
