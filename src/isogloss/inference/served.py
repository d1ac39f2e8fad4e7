"""A backend of predictions that asks an inference server, and keeps its answers on disk."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from isogloss.compat.interfaces import Tokenizer
from isogloss.errors import ModelError
from isogloss.inference.answer_journal import Entry, Journal, digest_of
from isogloss.inference.generation import Generated, IsComplete
from isogloss.inference.progress import Progress
from isogloss.inference.scoring import ItemScores
from isogloss.prompts.render import Prompt
from isogloss.prompts.tokenisation import EncodedPrompt, decoded, hidden_tokens, prefix_tokens
from isogloss.servers.evaluating import EvaluatingServer
from isogloss.servers.types import Failure, Scores, ServedText, Usage
from isogloss.servers.wire import Context
from isogloss.tasks import Item

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer", Scores, ServedText)


class UnansweredError(Exception):
    """Items without an answer, and the reason of the first; `gone` if the server is of no use."""

    def __init__(self, count: int, reason: str, gone: bool):
        super().__init__(reason)
        self.count, self.reason, self.gone = count, reason, gone


@dataclass
class Served:
    """A model on an inference server, asked about items of one language.

    Answers that the journal has are not asked for again. Items without an answer raise
    UnansweredError when all others have theirs.
    """

    tokenizer: Tokenizer
    server: EvaluatingServer
    journal: Journal
    items: Sequence[Item]
    _counted: Usage = field(init=False)

    def __post_init__(self) -> None:
        self._counted = self.server.usage

    def score(
        self,
        prompts: Sequence[Prompt],
        encoded: Sequence[EncodedPrompt],
        items: Sequence[Item],
        progress: Progress,
        *,
        labels: bool = False,
    ) -> Sequence[ItemScores]:
        """Score the choices of each prompt, item by item.

        A server that tells no log-probabilities gives none, where texts decide the predictions.
        """
        if not tells_logprobs(self.server):
            return [ItemScores((), -1)] * len(encoded)
        asked = [digest_of("scores", labels, entry.sequences, entry.starts) for entry in encoded]

        def ask(rows: Sequence[int]) -> Iterator[tuple[int, Scores | Failure]]:
            return self.server.score(
                [encoded[row] for row in rows], [prompts[row] for row in rows], labels=labels
            )

        self._ask(asked, items, ask, progress)
        scores = [self.journal.answers[key].scores for key in asked]
        return [
            ItemScores(entry.loglikelihoods, entry.greedy, entry.bounded)
            for entry in scores
            if entry is not None
        ]

    def generate(
        self,
        contexts: Sequence[str],
        max_new_tokens: int,
        is_complete: Sequence[IsComplete],
        *,
        chat: bool,
        progress: Progress,
    ) -> list[Generated]:
        """Continue each context greedily; a text ends where it ends in process.

        The server generates more after a complete answer, which is left out here.
        """
        prefix = prefix_tokens(self.tokenizer, chat)
        ids = self.tokenizer(list(contexts), add_special_tokens=False).input_ids if contexts else []
        prompts = [
            Context([*prefix, *tokens], text) for tokens, text in zip(ids, contexts, strict=True)
        ]
        asked = [digest_of("text", list(entry.ids), max_new_tokens) for entry in prompts]

        def ask(rows: Sequence[int]) -> Iterator[tuple[int, ServedText | Failure]]:
            return self.server.generate([prompts[row] for row in rows], max_new_tokens)

        self._ask(asked, self.items, ask, progress)
        texts = [self.journal.answers[key].text for key in asked]
        hidden = hidden_tokens(self.tokenizer)
        return [
            until_complete(text, self.tokenizer, hidden, complete)
            for text, complete in zip(texts, is_complete, strict=True)
            if text is not None
        ]

    def _ask(
        self,
        asked: Sequence[str],
        items: Sequence[Item],
        ask: Callable[[Sequence[int]], Iterator[tuple[int, Answer | Failure]]],
        progress: Progress,
    ) -> None:
        """Put the answers that the journal lacks into it; equal questions are asked once.

        `items`, where given, are those that are asked about. Raises UnansweredError.
        """
        rows_of: dict[str, list[int]] = {}
        for row, key in enumerate(asked):
            rows_of.setdefault(key, []).append(row)
        missing = [key for key in rows_of if key not in self.journal.answers]
        progress(sum(len(rows) for key, rows in rows_of.items() if key not in missing))
        failures, gone = list[str](), False
        try:
            for index, answer in ask([rows_of[key][0] for key in missing]):
                key = missing[index]
                rows = rows_of[key]
                item = items[rows[0]] if items else None
                name = f"{item.language} {item.item_id}" if item else "an option without question"
                self.journal.add(self._entry(key, name, answer))
                if isinstance(answer, Failure):
                    logger.warning(f"no answer about {name}: {answer.reason}")
                    failures += [answer.reason] * len(rows)
                else:
                    progress(len(rows))
        except ModelError as error:
            failures, gone = [str(error).rstrip(".")], True
        if failures:
            count = sum(len(rows_of[key]) for key in missing if key not in self.journal.answers)
            raise UnansweredError(count, failures[0], gone)

    def _entry(self, key: str, name: str, answer: Scores | ServedText | Failure) -> Entry:
        before, now = self._counted, self.server.usage
        self._counted = now
        return Entry(
            asked=key,
            item=name,
            scores=answer if isinstance(answer, Scores) else None,
            text=answer if isinstance(answer, ServedText) else None,
            failure=answer.reason if isinstance(answer, Failure) else None,
            requests=now.requests - before.requests,
            retries=now.retries - before.retries,
            prompt_tokens=now.prompt_tokens - before.prompt_tokens,
            generated_tokens=now.generated_tokens - before.generated_tokens,
        )


def tells_logprobs(server: EvaluatingServer) -> bool:
    """Whether a server tells log-probabilities at all."""
    return server.facts.exact or server.facts.top > 0


def until_complete(
    served: ServedText, tokenizer: Tokenizer, hidden: frozenset[int] | None, complete: IsComplete
) -> Generated:
    """A served text up to where its answer is complete: after a token, or else a character."""
    if served.ids is None:
        beginnings = [served.text[:size] for size in range(1, len(served.text) + 1)]
    else:
        prefixes = [served.ids[:size] for size in range(1, len(served.ids) + 1)]
        beginnings = decoded(tokenizer, prefixes, hidden)
    for text in beginnings:
        if complete(text):
            return Generated(text, True)
    return Generated(beginnings[-1] if beginnings else "", served.ended)
