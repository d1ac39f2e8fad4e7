"""Wire formats: the requests and answers of a kind of server, as a table of pure functions."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pydantic import BaseModel

from isogloss.servers.types import ServedText, ServerFacts

Token = int | str  # an id, or the text of a token where a server tells no ids
Model = TypeVar("Model", bound=BaseModel)


class NoLogprobsError(ValueError):
    """An answer without log-probabilities."""

    def __init__(self) -> None:
        super().__init__("no log-probabilities in the answer")


class Call(NamedTuple):
    """A request: POST with a body of JSON, or GET without; `path` begins at the server's root."""

    path: str
    body: Mapping[str, object] | None = None


class Context(NamedTuple):
    """The beginning of a prompt: its token ids, special tokens included, and its text, without."""

    ids: Sequence[int]
    text: str


@dataclass(frozen=True)
class Target:
    """The model that is asked: the server's `name` of it, and of the adapter if one is applied."""

    facts: ServerFacts
    name: str
    adapter: str | None = None


class Counted(NamedTuple):
    """Tokens that an answer accounts for."""

    prompt: int
    generated: int


class NextToken(NamedTuple):
    """Log-probabilities of the token after a context, at least of the most likely ones.

    `greedy` is the most likely token.
    """

    logprobs: Mapping[Token, float]
    greedy: Token
    counted: Counted


class Continuation(NamedTuple):
    """Log-likelihood of the tokens of a choice, and whether greedy decoding gives them."""

    loglikelihood: float
    is_greedy: bool
    counted: Counted


class Generation(NamedTuple):
    """A generated text and its accounting."""

    served: ServedText
    counted: Counted


class GivenText(NamedTuple):
    """How a server is asked about tokens that are given: a sequence, scored from a start."""

    request: Callable[[Target, Sequence[int], int], Call]
    read: Callable[[bytes, Sequence[int], int], Continuation]


@dataclass(frozen=True)
class Wire:
    """How a kind of server is asked, and how its answers are read.

    Readers raise ValueError for what is no answer of such a server. `given_text` is None where a
    server tells no log-probabilities of a given text, for the reason in `no_given_text`.
    """

    next_token: Callable[[Target, Context, Sequence[int]], Call]
    read_next: Callable[[bytes], NextToken]
    generate: Callable[[Target, Context, int], Call]
    read_generated: Callable[[bytes], Generation]
    given_text: GivenText | None = None
    no_given_text: str = ""


def read(answer: bytes, model: type[Model]) -> Model:
    """Return an answer as the model describes it. Raises ValueError for any other."""
    return model.model_validate_json(answer)


def excerpt(answer: bytes) -> str:
    """Return the beginning of an answer, on one line: its error message if it is JSON with one."""
    try:
        content = json.loads(answer)
    except ValueError:
        content = answer.decode("utf-8", "replace")
    while isinstance(content, dict):
        inner = [content[name] for name in ("error", "message", "detail") if content.get(name)]
        content = inner[0] if inner else json.dumps(content)
    return " ".join(str(content).split())[:300]
