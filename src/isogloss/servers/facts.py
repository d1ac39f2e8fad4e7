"""What a server is: its kind, version, models, context, and the log-probabilities that it tells."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from pydantic import BaseModel, TypeAdapter

from isogloss.servers.client import Client, NoAnswerError, RefusedError
from isogloss.servers.llama_cpp import LLAMA_CPP
from isogloss.servers.openai import OPENAI_CHAT, OPENAI_COMPLETIONS
from isogloss.servers.sglang import SGLANG
from isogloss.servers.types import PromptsAs, ServerFacts
from isogloss.servers.vllm import VLLM
from isogloss.servers.wire import Call, Context, NextToken, NoLogprobsError, Target, Wire, read
from isogloss.types import EngineKind

MODELS = Call("/v1/models")
TOPS = (20, 5, 1)  # most likely tokens to ask for: the limits of vLLM and of OpenAI's two endpoints
LLAMA_CPP_TOP = 1000  # it has no limit; an answer has some 100 bytes per token
SOME_IDS = (3, 4, 5, 6)  # of tokens that every vocabulary has
SOME_TEXT = Context(SOME_IDS[:2], "1, 2, 3,")

WIRES: Mapping[tuple[EngineKind, PromptsAs], Wire] = {
    (EngineKind.VLLM, PromptsAs.IDS): VLLM,
    (EngineKind.SGLANG, PromptsAs.IDS): SGLANG,
    (EngineKind.LLAMA_CPP, PromptsAs.IDS): LLAMA_CPP,
    (EngineKind.OPENAI, PromptsAs.TEXT): OPENAI_COMPLETIONS,
    (EngineKind.OPENAI, PromptsAs.CHAT): OPENAI_CHAT,
}


class _Version(BaseModel):
    version: str


class _Card(BaseModel):
    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class _Models(BaseModel):
    data: tuple[_Card, ...]


class _SglangModel(BaseModel):
    model_path: str
    is_generation: bool


class _SglangServer(BaseModel):
    version: str | None = None


class _Settings(BaseModel):
    n_ctx: int


class _Props(BaseModel):
    default_generation_settings: _Settings
    model_path: str
    build_info: str


class _Lora(BaseModel):
    id: int
    path: str


async def _models(client: Client) -> _Models:
    return await client.ask(MODELS, lambda answer: read(answer, _Models))


def _facts(kind: EngineKind, version: str | None, models: _Models) -> ServerFacts:
    """The facts of a server with token ids, before it is asked for log-probabilities."""
    lengths = [card.max_model_len for card in models.data if card.max_model_len]
    return ServerFacts(
        kind=kind,
        version=version,
        models={card.id: card.root for card in models.data},
        bases=tuple(card.id for card in models.data if card.parent is None),
        context_length=min(lengths, default=None),
        prompts=PromptsAs.IDS,
        top=1,
        exact=True,
    )


async def _of_vllm(client: Client, name: str | None) -> ServerFacts:
    version = await client.ask(Call("/version"), lambda answer: read(answer, _Version))
    facts = _facts(EngineKind.VLLM, version.version, await _models(client))
    return await _with_top(client, facts, name)


async def _of_sglang(client: Client, name: str | None) -> ServerFacts:
    await client.ask(Call("/get_model_info"), lambda answer: read(answer, _SglangModel))
    server = await client.ask(Call("/get_server_info"), lambda answer: read(answer, _SglangServer))
    return _facts(EngineKind.SGLANG, server.version, await _models(client))


async def _of_llama_cpp(client: Client, name: str | None) -> ServerFacts:
    props = await client.ask(Call("/props"), lambda answer: read(answer, _Props))
    bases = [card.id for card in (await _models(client)).data]
    adapters = await client.ask(Call("/lora-adapters"), _loras)
    return ServerFacts(
        kind=EngineKind.LLAMA_CPP,
        version=props.build_info,
        models=dict.fromkeys(bases, props.model_path) | {path: path for path in adapters},
        bases=tuple(bases),
        context_length=props.default_generation_settings.n_ctx,
        prompts=PromptsAs.IDS,
        top=LLAMA_CPP_TOP,
        exact=False,
    )


def _loras(answer: bytes) -> list[str]:
    """Return the paths of adapters in the order of their numbers, which are 0, 1, ..."""
    loras = TypeAdapter(list[_Lora]).validate_json(answer)
    return [lora.path for lora in sorted(loras, key=lambda lora: lora.id)]


async def _of_openai(client: Client, name: str | None) -> ServerFacts:
    models = await _models_with(client, name)
    facts = replace(_facts(EngineKind.OPENAI, None, models), prompts=PromptsAs.TEXT, exact=False)
    try:
        return await _with_top(client, facts, name)
    except RefusedError as error:
        if error.status in (401, 403):
            raise
        # No completions of a text: a chat is what is left.
        return await _with_top(client, replace(facts, prompts=PromptsAs.CHAT), name)


async def _models_with(client: Client, name: str | None) -> _Models:
    """List the models; one with a name is there even if a server fails to list it.

    transformers serve lists what the cache of the Hub has. A name that there is not is refused with
    the first request.
    """
    try:
        listed = (await _models(client)).data
    except (RefusedError, NoAnswerError):
        if name is None:
            raise
        listed = ()
    if name is not None and name not in [card.id for card in listed]:
        listed = (*listed, _Card(id=name))
    return _Models(data=listed)


async def _with_top(client: Client, facts: ServerFacts, name: str | None) -> ServerFacts:
    """Return the facts with the largest number of most likely tokens that the server accepts.

    0 if it answers without log-probabilities. And with whether tokens that are asked for are told.
    """
    wire = WIRES[facts.kind, facts.prompts]
    model = name or facts.bases[0]
    for top in TOPS:
        tried = replace(facts, top=top)
        call = wire.next_token(Target(tried, model), SOME_TEXT, SOME_IDS)
        try:
            answer = await client.ask(call, lambda answer: _next_token(wire, answer))
        except RefusedError as error:
            if top == TOPS[-1] or error.for_all:
                raise
            continue
        if answer is None:
            return replace(tried, top=0, exact=False)
        return replace(tried, exact=facts.exact and set(SOME_IDS) <= answer.logprobs.keys())
    raise AssertionError("unreachable")


def _next_token(wire: Wire, answer: bytes) -> NextToken | None:
    """Read an answer; None if it is one without log-probabilities."""
    try:
        return wire.read_next(answer)
    except NoLogprobsError:
        return None


# How each kind is asked what it is, in the order in which an unknown server is asked.
FACTS: Mapping[EngineKind, Callable[[Client, str | None], Awaitable[ServerFacts]]] = {
    EngineKind.VLLM: _of_vllm,
    EngineKind.SGLANG: _of_sglang,
    EngineKind.LLAMA_CPP: _of_llama_cpp,
    EngineKind.OPENAI: _of_openai,
}
# What only a server of that kind answers, and one field of the answer.
SIGNS: Mapping[EngineKind, tuple[Call, type[BaseModel]]] = {
    EngineKind.LLAMA_CPP: (Call("/props"), _Props),
    EngineKind.SGLANG: (Call("/get_model_info"), _SglangModel),
    EngineKind.VLLM: (Call("/version"), _Version),
    EngineKind.OPENAI: (MODELS, _Models),
}
