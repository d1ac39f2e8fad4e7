"""A server that evaluates: scores of choices and generated texts, item by item."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from isogloss.config.engine import Engine
from isogloss.errors import ModelError
from isogloss.prompts.render import Prompt
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.servers.client import Client, Counts, RefusedError, opened
from isogloss.servers.completion import ask_once, completed
from isogloss.servers.types import (
    Failure,
    PromptsAs,
    Scores,
    ServedText,
    ServerFacts,
    Usage,
)
from isogloss.servers.wire import (
    Call,
    Context,
    Continuation,
    Counted,
    GivenText,
    NextToken,
    Target,
    Wire,
)

T = TypeVar("T")

LEFT_OVER = 0.01  # a smaller rest of probability says nothing: log-probabilities are rounded


class Server:
    """An inference server with a model, and an adapter if one is applied; `open_server` makes one.

    `facts` is what it says about itself, `model` its name of the model or of the adapter.
    """

    def __init__(self, engine: Engine, wire: Wire, target: Target, counts: Counts):
        self._engine, self._counts = engine, counts
        self.wire, self.target = wire, target

    def __repr__(self) -> str:
        return f"Server({self.facts.kind}, {self.model!r})"

    @property
    def facts(self) -> ServerFacts:
        """What the server says about itself."""
        return self.target.facts

    @property
    def model(self) -> str:
        """The server's name of what answers: of the adapter, or of the model."""
        return self.target.adapter or self.target.name

    @property
    def usage(self) -> Usage:
        """What has been asked so far."""
        return self._counts.usage()

    @property
    def settings(self) -> Mapping[str, str]:
        """What decides the server's results, apart from model and version."""
        facts = self.facts
        return {
            "prompts": facts.prompts,
            "labels": "exact" if facts.exact else f"top {facts.top}",
        }

    def score(
        self, encoded: Sequence[EncodedPrompt], prompts: Sequence[Prompt], *, labels: bool
    ) -> Iterator[tuple[int, Scores | Failure]]:
        """Yield the index of each prompt and the scores of its choices, in order of completion.

        `labels`: choices are labels, of a token or a few, and not texts of options. `encoded` and
        `prompts` are the same prompts as ids and as text. Raises ModelError for options if the
        server tells no log-probabilities of a given text, or if it has become useless.
        """
        given_text = self.wire.given_text
        if not self.facts.top and not self.facts.exact:
            raise ModelError(
                f"{self.named} tells no log-probabilities, so that it cannot score choices."
            )
        if labels and self.facts.prompts == PromptsAs.IDS:
            score = self._score_labels
        elif labels:
            self._require_single_tokens(encoded, prompts)
            score = self._score_label_texts
        elif given_text is not None:
            score = partial(self._score_options, given_text)
        else:
            raise ModelError(self.wire.no_given_text)
        jobs = [partial(score, *pair) for pair in zip(encoded, prompts, strict=True)]
        return completed(
            opened(self._engine, self._counts), jobs, self._engine.concurrency, self.named
        )

    def generate(
        self, contexts: Sequence[Context], max_new_tokens: int
    ) -> Iterator[tuple[int, ServedText | Failure]]:
        """Yield the index of each context and its greedy continuation, in order of completion."""
        jobs = [partial(self._generate, context, max_new_tokens) for context in contexts]
        return completed(
            opened(self._engine, self._counts), jobs, self._engine.concurrency, self.named
        )

    def ask(self, call: Call, read: Callable[[bytes], T]) -> T:
        """Return what `read` makes of the answer to one request. Raises ModelError without one."""
        return ask_once(self._engine, self._counts, lambda client: client.ask(call, read))

    @property
    def named(self) -> str:
        """What messages call the server."""
        return f"the server at {self._engine.base_url}"

    async def _score_labels(self, encoded: EncodedPrompt, prompt: Prompt, client: Client) -> Scores:
        """Score labels token by token: after the context, and after first tokens of long labels."""
        start = encoded.starts[0]
        branches: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for sequence in encoded.sequences:
            for at in range(start, len(sequence)):
                branches[sequence[:at]].add(sequence[at])
        nodes: dict[tuple[int, ...], NextToken] = {}
        for prefix, wanted in branches.items():
            context = Context(prefix, prompt.context)
            call = self.wire.next_token(self.target, context, sorted(wanted))
            nodes[prefix] = await client.ask(call, self.wire.read_next)
            self._count(nodes[prefix].counted, len(prefix))
        sums, greedy, bounded = [], -1, False
        for choice, sequence in enumerate(encoded.sequences):
            total, is_greedy = 0.0, True
            for at in range(start, len(sequence)):
                node, token = nodes[sequence[:at]], sequence[at]
                value = node.logprobs.get(token)
                bounded |= value is None
                total += _at_most(node) if value is None else value
                is_greedy &= node.greedy == token
            sums.append(total)
            if is_greedy and (greedy < 0 or len(sequence) > len(encoded.sequences[greedy])):
                greedy = choice
        first = encoded.sequences[0][:start]
        return Scores(tuple(sums), greedy, bounded, nodes[first].counted.prompt)

    def _require_single_tokens(
        self, encoded: Sequence[EncodedPrompt], prompts: Sequence[Prompt]
    ) -> None:
        """Raise ModelError for a label of several tokens: the text of one says little of it."""
        for entry, prompt in zip(encoded, prompts, strict=True):
            for sequence, text in zip(entry.sequences, prompt.continuations, strict=True):
                if len(sequence) != entry.starts[0] + 1:
                    raise ModelError(
                        f"the label {text!r} has {len(sequence) - entry.starts[0]} tokens, but "
                        f"{self.named} tells the probability of one; expected labels=letters or "
                        "labels=digits, or engine.kind vllm, sglang or llama_cpp."
                    )

    async def _score_label_texts(
        self, encoded: EncodedPrompt, prompt: Prompt, client: Client
    ) -> Scores:
        """Score labels of a token each by their texts, as the server writes tokens."""
        start = encoded.starts[0]
        context = Context(encoded.sequences[0][:start], prompt.context)
        node = await client.ask(self.wire.next_token(self.target, context, ()), self.wire.read_next)
        self._count(node.counted, start)
        in_chat = self.facts.prompts == PromptsAs.CHAT
        texts = [text.strip() if in_chat else text for text in prompt.continuations]
        values = [node.logprobs.get(text) for text in texts]
        return Scores(
            tuple(_at_most(node) if value is None else value for value in values),
            texts.index(str(node.greedy)) if node.greedy in texts else -1,
            None in values,
            node.counted.prompt,
        )

    async def _score_options(
        self, given_text: GivenText, encoded: EncodedPrompt, prompt: Prompt, client: Client
    ) -> Scores:
        """Score the text of each option by a request of its own."""
        calls = []
        for sequence, start in zip(encoded.sequences, encoded.starts, strict=True):
            call = given_text.request(self.target, sequence, start)
            read = partial(_read_given, given_text, sequence, start)
            calls.append(client.ask(call, read))
        values = await asyncio.gather(*calls)
        for value, sequence in zip(values, encoded.sequences, strict=True):
            self._count(value.counted, len(sequence))
        greedy = [choice for choice, value in enumerate(values) if value.is_greedy]
        return Scores(
            tuple(value.loglikelihood for value in values),
            max(greedy, key=lambda choice: len(encoded.sequences[choice]), default=-1),
            False,
            encoded.starts[0],
        )

    async def _generate(self, context: Context, max_new_tokens: int, client: Client) -> ServedText:
        call = self.wire.generate(self.target, context, max_new_tokens)
        generation = await client.ask(call, self.wire.read_generated)
        self._count(generation.counted, len(context.ids))
        return generation.served

    def _count(self, counted: Counted, expected: int) -> None:
        """Account for an answer. Raises RefusedError if the prompt was another than isogloss's."""
        self._counts.prompt_tokens += counted.prompt
        self._counts.generated_tokens += counted.generated
        if counted.prompt != expected and self.facts.prompts != PromptsAs.CHAT:
            raise RefusedError(
                f"the server counts {counted.prompt} prompt tokens, isogloss {expected}", 200
            )


def _read_given(
    given_text: GivenText, sequence: Sequence[int], start: int, answer: bytes
) -> Continuation:
    return given_text.read(answer, sequence, start)


def _at_most(node: NextToken) -> float:
    """Return what the log-probability of a token can be at most that is not among those returned.

    It is not above the least of them, nor can the probabilities add to more than one.
    """
    lowest = min(node.logprobs.values())
    left = 1 - math.fsum(map(math.exp, node.logprobs.values()))
    return min(lowest, math.log(left)) if left > LEFT_OVER else lowest
