"""The protocol: stored and restored, and what it implies."""

from itertools import product

import pytest

from isogloss.prompts.protocol import Protocol
from isogloss.types import Format, Labels, Normalisation, PromptLanguage, Reasoning


def test_a_protocol_is_restored_from_its_stored_fields() -> None:
    for protocol in (
        Protocol(),
        Protocol(
            Format.CLOZE,
            Normalisation.UNCONDITIONAL,
            PromptLanguage.TARGET,
            True,
            Reasoning.COT,
            64,
        ),
        Protocol(labels=Labels.DIGITS),
        Protocol(Format.GENERATE, labels=Labels.NATIVE),
    ):
        fields = protocol.as_dict()
        assert {type(value) for value in fields.values()} <= {str, bool, int}
        restored = Protocol.from_dict(fields)
        assert restored == protocol
        assert isinstance(restored.format, Format)
        assert isinstance(restored.reasoning, Reasoning)


def test_labels_are_stored_unless_they_are_letters_as_in_earlier_versions() -> None:
    assert "labels" not in Protocol(labels=Labels.LETTERS).as_dict()
    assert Protocol(labels=Labels.NATIVE).as_dict()["labels"] == "native"
    assert Protocol.from_dict(Protocol().as_dict()).labels is Labels.LETTERS
    assert Protocol().in_training == "letter english plain"
    assert Protocol(labels=Labels.DIGITS).in_training == "letter digits english plain"
    with pytest.raises(ValueError, match="roman"):
        Protocol.from_dict({**Protocol().as_dict(), "labels": "roman"})


def test_the_stored_fields_are_those_of_earlier_fingerprints() -> None:
    assert Protocol(Format.GENERATE).as_dict() == {
        "format": "generate",
        "normalisation": "length",
        "prompt_language": "english",
        "chat": False,
        "reasoning": "direct",
        "max_new_tokens": 16,
    }


@pytest.mark.parametrize(("format", "reasoning"), list(product(Format, Reasoning)))
def test_text_is_generated_for_that_format_or_reasoning_and_cloze_shows_no_options(
    format: Format, reasoning: Reasoning
) -> None:
    protocol = Protocol(format, reasoning=reasoning)
    assert protocol.generates == ("generate" in (format, reasoning) or reasoning == "cot")
    assert protocol.shows_options == (format != "cloze")
