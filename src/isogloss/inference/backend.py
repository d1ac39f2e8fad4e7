"""Backends of predictions: what scores the choices of prompts and continues texts.

Prompts, tokens and what becomes of answers are the same with every backend (`predict`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from isogloss.compat.interfaces import Tokenizer
from isogloss.inference.generation import Generated, IsComplete, generate
from isogloss.inference.progress import Progress
from isogloss.inference.scoring import ItemScores, score
from isogloss.models.language_model import LanguageModel
from isogloss.models.paths import can_share
from isogloss.prompts.render import Prompt
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.tasks import Item


class Backend(Protocol):
    """What computes the scores and texts of predictions."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model that computes."""

    def score(
        self,
        prompts: Sequence[Prompt],
        encoded: Sequence[EncodedPrompt],
        items: Sequence[Item],
        progress: Progress,
        *,
        labels: bool = False,
    ) -> Sequence[ItemScores]:
        """Score the choices of each prompt, `encoded` as tokens; `labels` if they are labels.

        Prompts of `items`, one each, may share computation if they have a passage in common; with
        no items, none do.
        """

    def generate(
        self,
        contexts: Sequence[str],
        max_new_tokens: int,
        is_complete: Sequence[IsComplete],
        *,
        chat: bool,
        progress: Progress,
    ) -> list[Generated]:
        """Continue each context greedily; see `generation.generate`."""


@dataclass(frozen=True)
class InProcess:
    """A model in memory, with its active adapter."""

    model: LanguageModel

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        return self.model.tokenizer

    def score(
        self,
        prompts: Sequence[Prompt],
        encoded: Sequence[EncodedPrompt],
        items: Sequence[Item],
        progress: Progress,
        *,
        labels: bool = False,
    ) -> Sequence[ItemScores]:
        """See `scoring.score`; the head multiplies in float32 for labels."""
        share = bool(items) and can_share(self.model)
        return score(self.model, encoded, items, share, progress, float32_head=labels)

    def generate(
        self,
        contexts: Sequence[str],
        max_new_tokens: int,
        is_complete: Sequence[IsComplete],
        *,
        chat: bool,
        progress: Progress,
    ) -> list[Generated]:
        """See `generation.generate`."""
        return generate(
            self.model, contexts, max_new_tokens, is_complete, chat=chat, progress=progress
        )
