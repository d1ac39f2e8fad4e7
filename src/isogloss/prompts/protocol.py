"""Protocol: how items are presented to a model and how its answers are obtained."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from isogloss.types import Format, Labels, Normalisation, PromptLanguage, Reasoning


@dataclass(frozen=True)
class Protocol:
    """How items are presented to a model and how its answers are obtained.

    `normalisation` decides how the log-likelihoods of options are made comparable in `cloze`
    format. `chat` wraps the prompt in the tokenizer's chat template. `max_new_tokens` is the
    budget for generated text: in `generate` format and with `cot` reasoning. `template_date` is
    what the chat template prints as today's date, None if it prints none. `labels` are those of
    options, which `cloze` does not show.
    """

    format: Format = Format.LETTER
    normalisation: Normalisation = Normalisation.LENGTH
    prompt_language: PromptLanguage = PromptLanguage.ENGLISH
    chat: bool = False
    reasoning: Reasoning = Reasoning.DIRECT
    max_new_tokens: int = 16
    template_date: str | None = None
    labels: Labels = Labels.LETTERS

    def as_dict(self) -> dict[str, str | bool | int]:
        """Return the fields as plain strings, numbers and booleans, for hashing or storage.

        Without `template_date` if there is none, and without `labels` if they are letters: what is
        stored is then equal to what earlier versions stored.
        """
        return {
            name: str(value) if isinstance(value, StrEnum) else value
            for name, value in asdict(self).items()
            if value is not None and (name, value) != ("labels", Labels.LETTERS)
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Protocol":  # Any: parsed JSON or YAML
        """Return the protocol stored by `as_dict`."""
        return cls(
            format=Format(fields["format"]),
            normalisation=Normalisation(fields["normalisation"]),
            prompt_language=PromptLanguage(fields["prompt_language"]),
            chat=bool(fields["chat"]),
            reasoning=Reasoning(fields["reasoning"]),
            max_new_tokens=int(fields["max_new_tokens"]),
            template_date=fields.get("template_date"),
            labels=Labels(fields.get("labels", Labels.LETTERS)),
        )

    @property
    def in_training(self) -> str:
        """What decides the texts that a model is trained on, in words."""
        chat = "chat" if self.chat else "plain"
        labels = f" {self.labels}" if self.labels != Labels.LETTERS else ""
        return f"{self.format}{labels} {self.prompt_language} {chat}"

    @property
    def generates(self) -> bool:
        """Whether the model generates text, in addition to scoring choices."""
        return self.format == Format.GENERATE or self.reasoning == Reasoning.COT

    @property
    def shows_options(self) -> bool:
        """Whether the prompt lists the options with their labels."""
        return self.format != Format.CLOZE
