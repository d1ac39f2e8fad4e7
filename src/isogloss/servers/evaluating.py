"""What every server offers that evaluates, whatever it is asked with."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from isogloss.prompts.render import Prompt
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.servers.types import Failure, Scores, ServedText, ServerFacts, Usage
from isogloss.servers.wire import Context


class EvaluatingServer(Protocol):
    """A server with a model, and an adapter if one is applied."""

    @property
    def facts(self) -> ServerFacts:
        """What the server says about itself."""

    @property
    def model(self) -> str:
        """The server's name of what answers: of the adapter, or of the model."""

    @property
    def named(self) -> str:
        """What messages call the server."""

    @property
    def usage(self) -> Usage:
        """What has been asked so far."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What decides the server's results, apart from model and version."""

    def score(
        self, encoded: Sequence[EncodedPrompt], prompts: Sequence[Prompt], *, labels: bool
    ) -> Iterator[tuple[int, Scores | Failure]]:
        """Yield the index of each prompt and the scores of its choices, in any order."""

    def generate(
        self, contexts: Sequence[Context], max_new_tokens: int
    ) -> Iterator[tuple[int, ServedText | Failure]]:
        """Yield the index of each context and its greedy continuation, in any order."""
