"""Tinker, a service that trains LoRA and answers with it, asked by its own SDK (package tinker).

The SDK repeats failed requests for up to five minutes, and waits while the service has no capacity.
Source: the docstrings of tinker 0.38, `ServiceClient` and `SamplingClient.sample`.
"""

import importlib.util
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from isogloss.config.engine import Engine
from isogloss.errors import ConfigError, IsoglossError, ModelError
from isogloss.prompts.render import Prompt
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.servers import address
from isogloss.servers.client import Counts
from isogloss.servers.types import (
    Failure,
    PromptsAs,
    Scores,
    ServedAdapter,
    ServedText,
    ServerFacts,
    Usage,
)
from isogloss.servers.wire import Context
from isogloss.types import EngineKind

if TYPE_CHECKING:
    from tinker import APIFuture, SampleResponse, SamplingClient, ServiceClient, TensorData

T = TypeVar("T")

SERVICE = "Tinker"
PATHS = "tinker://"
FOR_ALL = frozenset({401, 402, 403, 404})  # whatever is asked
MOST_FAILURES = 3  # requests in a row without an answer, for five minutes each
SHOWN_MODELS = 5


def require_tinker() -> None:
    """Raise ConfigError if Tinker's SDK is not installed."""
    if importlib.util.find_spec("tinker") is None:
        raise ConfigError(
            "engine.kind is tinker, but its SDK is not installed; expected the package tinker "
            "(pip install 'isogloss[tinker]')."
        )


def open_service(engine: Engine) -> "ServiceClient":
    """A client of the service, with the key from the environment.

    Raises ConfigError without the SDK or a key, and ModelError if the service does not accept it.
    """
    require_tinker()
    secret = address.key(engine)
    if secret is None:
        raise ConfigError(
            f"engine.kind is tinker, but the environment variable {engine.key} has no key; "
            "expected one of the service."
        )
    if engine.base_url is not None:
        address.root(engine.base_url)  # refuses what is no address
    from tinker import ServiceClient

    return ServiceClient(base_url=engine.base_url, api_key=secret)


@contextmanager
def told(engine: Engine, error_class: type[IsoglossError] = ModelError) -> Iterator[None]:
    """Context that turns the SDK's errors into one sentence without the key."""
    import httpx
    from tinker import APIStatusError, TinkerError

    try:
        yield
    except (TinkerError, httpx.HTTPError, TimeoutError, ValueError, RuntimeError) as error:
        status = error.status_code if isinstance(error, APIStatusError) else None
        if status in (401, 403):  # what a service says of a key may repeat it
            reason = (
                f"status {status}: the environment variable {engine.key} has a key that it does "
                "not accept"
            )
        else:
            said = " ".join(str(error).split())[:300].rstrip(".")
            reason = address.without_key(said or type(error).__name__, address.key(engine))
        raise error_class(f"{SERVICE} gives no answer: {reason}.") from error


def open_tinker(engine: Engine, adapter: ServedAdapter | None = None) -> "TinkerServer":
    """The service, answering with the engine's model or with an adapter that it has trained.

    Raises ModelError if it has no such model or adapter.
    """
    path = _path(adapter) if adapter else None
    service = open_service(engine)
    with told(engine):
        facts = _facts(engine)
        base = facts.bases[0]
        sampler = service.create_sampling_client(
            model_path=path, base_model=None if path else base
        ).result()
        trained_on = sampler.get_base_model()
    if trained_on != base:
        raise ModelError(
            f"the adapter {path!r} on {SERVICE} was trained on {trained_on!r}; expected an adapter "
            f"of {base!r}."
        )
    return TinkerServer(engine, facts, path, service, sampler)


def _path(adapter: ServedAdapter) -> str:
    if adapter.name is None:
        raise ModelError(
            f"the adapter {str(adapter.folder or adapter.digest)!r} was not trained by {SERVICE}, "
            "which takes no weights from elsewhere; expected an adapter of kind tinker, or its "
            f"{PATHS} path in engine.adapter."
        )
    if not adapter.name.startswith(PATHS):
        raise ModelError(
            f"engine.adapter is {adapter.name!r}; expected a path of {SERVICE} such as "
            f"{PATHS}RUN/sampler_weights/NAME."
        )
    return adapter.name


def _facts(engine: Engine) -> ServerFacts:
    from tinker import RestClient

    rest = RestClient(base_url=engine.base_url, api_key=address.key(engine))
    models = {
        model.model_name: model.max_context_length
        for model in rest.get_server_capabilities().result().supported_models
        if model.model_name
    }
    if engine.name is None or engine.name not in models:
        shown = ", ".join(map(repr, sorted(models)[:SHOWN_MODELS]))
        more = f" and {len(models) - SHOWN_MODELS} more" if len(models) > SHOWN_MODELS else ""
        raise ModelError(
            f"{SERVICE} has no model {engine.name!r}; expected engine.name, or model, to "
            f"be one of {shown}{more}."
        )
    return ServerFacts(
        kind=EngineKind.TINKER,
        version=None,
        models={engine.name: None},
        bases=(engine.name,),
        context_length=models[engine.name],
        prompts=PromptsAs.IDS,
        top=1,
        exact=True,
    )


class _Asked(NamedTuple):
    """Requests about one prompt under way, and how their answers are read."""

    at: int
    futures: list["APIFuture[SampleResponse]"]
    read: Callable[[list["SampleResponse"]], Scores | ServedText]


@dataclass
class TinkerServer:
    """A model of the service, and an adapter by its path if one is applied.

    The SDK does not say how many requests it has repeated.
    """

    engine: Engine
    facts: ServerFacts
    path: str | None
    service: "ServiceClient"
    sampler: "SamplingClient"
    _counts: Counts = field(default_factory=Counts)

    @property
    def model(self) -> str:
        """The path of the adapter, or the name of the model."""
        return self.path or self.facts.bases[0]

    @property
    def named(self) -> str:
        """What messages call the server."""
        return SERVICE

    @property
    def usage(self) -> Usage:
        """What has been asked so far."""
        return self._counts.usage()

    @property
    def settings(self) -> Mapping[str, str]:
        """What decides the results, apart from the model."""
        return {"prompts": self.facts.prompts, "labels": "exact"}

    def score(
        self, encoded: Sequence[EncodedPrompt], prompts: Sequence[Prompt], *, labels: bool
    ) -> Iterator[tuple[int, Scores | Failure]]:
        """Yield the index of each prompt and the scores of its choices.

        Labels of a token each are asked about at once, anything else choice by choice.
        """

        def asked(index: int) -> _Asked:
            entry = encoded[index]
            start = entry.starts[0]
            if labels and all(len(sequence) == start + 1 for sequence in entry.sequences):
                future = self._next_token(entry)
                return _Asked(index, [future], lambda answers: _of_labels(entry, answers[0]))
            futures = [
                self._given(sequence, len(sequence) - begin)
                for sequence, begin in zip(entry.sequences, entry.starts, strict=True)
            ]
            return _Asked(index, futures, lambda answers: _of_options(entry, answers))

        for index, answer in self._answers(len(encoded), asked):
            assert not isinstance(answer, ServedText)
            yield index, answer

    def generate(
        self, contexts: Sequence[Context], max_new_tokens: int
    ) -> Iterator[tuple[int, ServedText | Failure]]:
        """Yield the index of each context and its greedy continuation."""

        def asked(index: int) -> _Asked:
            future = self._sample(contexts[index].ids, max_new_tokens)
            return _Asked(index, [future], lambda answers: _text(answers[0]))

        for index, answer in self._answers(len(contexts), asked):
            assert not isinstance(answer, Scores)
            yield index, answer

    def _answers(
        self, count: int, ask: Callable[[int], _Asked]
    ) -> Iterator[tuple[int, Scores | ServedText | Failure]]:
        """Ask about `count` prompts, some at a time, and yield the answers in their order.

        Raises ModelError if the service refuses what it would refuse to all of them, or answers
        several in a row not at all.
        """
        from tinker import APIConnectionError, APIStatusError

        under_way: deque[_Asked] = deque()
        waiting = iter(range(count))
        failures = 0
        try:
            while True:
                for index in waiting:
                    under_way.append(ask(index))
                    if len(under_way) == self.engine.concurrency:
                        break
                if not under_way:
                    return
                oldest = under_way.popleft()
                try:
                    with told(self.engine):
                        answers = [future.result() for future in oldest.futures]
                        for answer in answers:
                            self._counts.generated_tokens += len(answer.sequences[0].tokens)
                        result = oldest.read(answers)
                    failures = 0
                    yield oldest.at, result
                except ModelError as error:
                    cause = error.__cause__
                    status = cause.status_code if isinstance(cause, APIStatusError) else None
                    failures = failures + 1 if isinstance(cause, APIConnectionError) else 0
                    if status in FOR_ALL or failures == MOST_FAILURES:
                        raise
                    yield oldest.at, Failure(str(error).rstrip("."))
        finally:
            for asked in under_way:
                for future in asked.futures:
                    future.future().cancel()

    def _next_token(self, entry: EncodedPrompt) -> "APIFuture[SampleResponse]":
        """Ask for the log-probabilities of all labels, which are one token each, in one pass.

        The prompt ends in one of them, since log-probabilities are those of tokens in a prompt.
        """
        from tinker import TensorData

        sequence, labels = entry.sequences[0], [each[-1] for each in entry.sequences]
        rows, last = len(sequence) - 1, [0] * (len(sequence) - 1)
        wanted = TensorData(
            data=labels,
            dtype="int64",
            shape=[rows, len(labels)],
            sparse_crow_indices=[*last, len(labels)],
            sparse_col_indices=list(range(len(labels))),
        )
        return self._given(sequence, 1, wanted)

    def _given(
        self, sequence: Sequence[int], scored: int, wanted: "TensorData | None" = None
    ) -> "APIFuture[SampleResponse]":
        """Ask for the log-probabilities of the last tokens of a sequence and the likeliest ones."""
        return self._sample(
            sequence,
            1,
            include_prompt_logprobs=True,
            prompt_logprobs_last_n=scored,
            topk_prompt_logprobs=1,
            target_prompt_logprobs=wanted,
        )

    def _sample(
        self,
        tokens: Sequence[int],
        max_tokens: int,
        *,
        include_prompt_logprobs: bool = False,
        prompt_logprobs_last_n: int | None = None,
        topk_prompt_logprobs: int = 0,
        target_prompt_logprobs: "TensorData | None" = None,
    ) -> "APIFuture[SampleResponse]":
        from tinker import ModelInput, SamplingParams

        self._counts.requests += 1
        self._counts.prompt_tokens += len(tokens)
        return self.sampler.sample(
            ModelInput.from_ints(list(tokens)),
            num_samples=1,
            sampling_params=SamplingParams(max_tokens=max_tokens, temperature=0.0),
            include_prompt_logprobs=include_prompt_logprobs,
            prompt_logprobs_last_n=prompt_logprobs_last_n,
            topk_prompt_logprobs=topk_prompt_logprobs,
            target_prompt_logprobs=target_prompt_logprobs,
        )


def _of_labels(entry: EncodedPrompt, answer: "SampleResponse") -> Scores:
    values = answer.target_prompt_logprobs
    if values is None or len(values.data) != len(entry.sequences):
        raise ValueError("no log-probabilities of the labels")
    labels = [sequence[-1] for sequence in entry.sequences]
    greedy = _likeliest(answer, 1)[0]
    return Scores(
        tuple(map(float, values.data)),
        labels.index(greedy) if greedy in labels else -1,
        False,
        entry.starts[0],
    )


def _of_options(entry: EncodedPrompt, answers: Sequence["SampleResponse"]) -> Scores:
    sums, greedy = [], list[int]()
    for choice, answer in enumerate(answers):
        tokens = entry.sequences[choice][entry.starts[choice] :]
        values = (answer.prompt_logprobs or [])[-len(tokens) :]
        known = [value for value in values if value is not None]
        if len(known) != len(tokens):
            raise ValueError("no log-probabilities of the prompt's last tokens")
        sums.append(sum(known))
        if _likeliest(answer, len(tokens)) == list(tokens):
            greedy.append(choice)
    best = max(greedy, key=lambda choice: len(entry.sequences[choice]), default=-1)
    return Scores(tuple(sums), best, False, entry.starts[0])


def _likeliest(answer: "SampleResponse", count: int) -> list[int]:
    """The likeliest token at each of the last positions of a prompt."""
    positions = (answer.topk_prompt_logprobs or [])[-count:]
    tokens = [position[0][0] for position in positions if position]
    if len(tokens) != count:
        raise ValueError("no most likely tokens of the prompt")
    return tokens


def _text(answer: "SampleResponse") -> ServedText:
    sequence = answer.sequences[0]
    return ServedText("", sequence.stop_reason == "stop", tuple(sequence.tokens))
