"""What goes to an inference server and what comes back, for every kind of server."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from isogloss.types import EngineKind


class PromptsAs(StrEnum):
    """How a server receives prompts: as token ids, as text, or as a message of a chat.

    A server wraps a message in its own chat template, so that its prompt is not known to the token.
    """

    IDS = "ids"
    TEXT = "text"
    CHAT = "chat"


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter that a server applies: found by its own `name` there, or by its `folder`."""

    digest: str
    folder: Path | None = None
    name: str | None = None

    @property
    def loaded_name(self) -> str:
        """The name under which a server loads it."""
        return f"isogloss-{self.digest[:16]}"


@dataclass(frozen=True)
class ServerFacts:
    """What a server says about itself; None for what it does not say.

    `models` maps the names of its models and adapters to where they come from; `bases` are those
    that are no adapters. `top` is the number of most likely tokens whose log-probabilities it
    returns, `exact` whether it also returns those of tokens that are asked for.
    """

    kind: EngineKind
    version: str | None
    models: Mapping[str, str | None]
    bases: tuple[str, ...]
    context_length: int | None
    prompts: PromptsAs
    top: int
    exact: bool


class Scores(NamedTuple):
    """Log-likelihood (nats) of each choice, and which one greedy decoding gives (-1: none).

    With `bounded`, the server has left out a choice because others are more likely: the value is
    then what it can be at most.
    """

    loglikelihoods: tuple[float, ...]
    greedy: int
    bounded: bool
    prompt_tokens: int


class ServedText(NamedTuple):
    """Text that a server generated, and whether it ended before the token limit.

    `ids` are its tokens if the server tells them: the text may lack special tokens, they do not.
    """

    text: str
    ended: bool
    ids: tuple[int, ...] | None = None


class Failure(NamedTuple):
    """Why a server gave no answer about an item."""

    reason: str


@dataclass(frozen=True)
class Usage:
    """What a server was asked and what it counted."""

    requests: int
    retries: int
    prompt_tokens: int
    generated_tokens: int
