"""What the parts share: where they measure, and items with their prompts as tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import EncodedPrompt, encode
from isogloss.tasks import Item
from isogloss.types import Format


@dataclass(frozen=True)
class Setting:
    """Where and with what a part measures. `quick` is for a CPU: a few items of each."""

    name: str  # of the model
    device: torch.device
    items: Sequence[Item]
    quick: bool


def encoded_prompts(
    model: LanguageModel, items: Sequence[Item], kind: Format
) -> list[EncodedPrompt]:
    """The prompts of items with their choices, as tokens."""
    protocol = Protocol(kind)
    return encode(model.tokenizer, [prompt(item, protocol, model.tokenizer) for item in items])
