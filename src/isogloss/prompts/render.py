"""Prompts: an item as a text to be continued, and one continuation for each of its choices.

The frame is that of lm-evaluation-harness for Belebele (P:, Q:, A: to D:, Answer:), in English or
in the language of the item; options have letters, digits or native letters. PROMPT_VERSION is part
of every fingerprint: raise it with any change here, of the tokens of a prompt, of labels or in the
wording of a language.
"""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from isogloss.compat.interfaces import Tokenizer
from isogloss.errors import ConfigError
from isogloss.prompts.chat import chat_format, render_chat
from isogloss.prompts.labels import known_labels, labels_of
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.reasoning_blocks import open_block
from isogloss.prompts.wording import Wording, wording
from isogloss.tasks.items import Item
from isogloss.types import Labels, LanguageCode, PromptLanguage, Reasoning

PROMPT_VERSION = "3"


class Prompt(NamedTuple):
    """A context and one continuation per choice."""

    context: str
    continuations: tuple[str, ...]


def require_wording(languages: Iterable[LanguageCode], prompt_language: PromptLanguage) -> None:
    """Raise ConfigError for a language in which prompts are to be written but have no wording."""
    if prompt_language == PromptLanguage.TARGET:
        for code in languages:
            wording(code)


def require_instruction(
    languages: Iterable[LanguageCode],
    prompt_language: PromptLanguage,
    labels: Labels,
    reasoning: Reasoning,
) -> None:
    """Raise ConfigError for a language in which prompts cannot ask for reasoning and a digit."""
    if reasoning == Reasoning.COT and labels == Labels.DIGITS:
        for code in languages:
            in_target = prompt_language == PromptLanguage.TARGET
            _reason_digit(wording(code if in_target else "eng_Latn"))


def as_shown(
    items: Iterable[Item],
    prompt_language: PromptLanguage,
    shuffle_seed: int | None,
    *,
    own_texts: bool,
) -> list[Item]:
    """Return the items with the texts and the order of options that prompts show.

    With `own_texts`, that of their task, English texts of the task are translated into the language
    of the prompt. With a `shuffle_seed`, options are shuffled. Raises ConfigError if a language has
    no wording.
    """
    shown = list(items)
    if own_texts and prompt_language == PromptLanguage.TARGET:
        shown = [localised(item) for item in shown]
    if shuffle_seed is not None:
        shown = [shuffle_options(item, shuffle_seed) for item in shown]
    return shown


def localised(item: Item) -> Item:
    """Return the item with its task's own English texts in the item's language.

    Only the task's own texts are translated (the question and topics of sib200), never the data.
    """
    texts = wording(item.language).texts
    return replace(
        item,
        question=texts.get(item.question, item.question),
        options=tuple(texts.get(option, option) for option in item.options),
    )


def shuffle_options(item: Item, seed: int) -> Item:
    """Return the item with shuffled options, in the same order for parallel items of languages."""
    order = list(range(len(item.options)))
    random.Random(f"options/{seed}/{item.item_id}").shuffle(order)
    return replace(
        item,
        options=tuple(item.options[index] for index in order),
        answer=order.index(item.answer),
    )


def prompt(item: Item, protocol: Protocol, tokenizer: Tokenizer | None = None) -> Prompt:
    """Return the prompt of an item: its choices are labels, or the options in `cloze` format.

    With `protocol.chat` the context is the user's turn in the tokenizer's chat template, and the
    choices begin the assistant's turn, without a leading space, as in lm-evaluation-harness.
    """
    words = _wording(item.language, protocol)
    context = f"{_question(item, protocol, words)}{words.answer}:"
    choices = _choices(item, protocol)
    if protocol.chat:
        return Prompt(_chat(tokenizer, context, item, thinking=False), choices)
    return Prompt(context, _spaced(choices))


def reasoning_prompt(item: Item, protocol: Protocol, tokenizer: Tokenizer | None = None) -> str:
    """Return the context that asks the model to reason and then to answer."""
    words = _wording(item.language, protocol)
    if not protocol.shows_options:
        instruction = words.reason_text
    elif protocol.labels == Labels.DIGITS:
        instruction = _reason_digit(words)
    else:
        instruction = words.reason_letter
    request = f"{_question(item, protocol, words)}{instruction.format(answer=words.answer)}"
    if protocol.chat:
        return _chat(tokenizer, request, item, thinking=True)
    return f"{request}\n{words.reasoning}:"


def reasoning_opened(protocol: Protocol, tokenizer: Tokenizer | None) -> str:
    """Return what `reasoning_prompt` ends in, which may open a block of reasoning."""
    if not protocol.chat or tokenizer is None:
        return ""
    return chat_format(tokenizer, thinking=True).opened


def after_reasoning(
    item: Item, protocol: Protocol, context: str, reasoning: str, opened: str = ""
) -> Prompt:
    """Return the prompt by which choices are scored after the model has reasoned.

    `context` is that of `reasoning_prompt`, `reasoning` the generated text before the answer. A
    block of reasoning that is open in it, or in `opened`, is ended first.
    """
    answer = _wording(item.language, protocol).answer
    text = f"{context}{reasoning.rstrip()}"
    block = open_block(f"{opened}{reasoning.rstrip()}")
    if block and block.ending:
        text = f"{text}{block.ending.rstrip()}"
    return Prompt(f"{text}\n{answer}:", _spaced(_choices(item, protocol)))


def unconditional_prompt(
    item: Item, protocol: Protocol, tokenizer: Tokenizer | None = None
) -> Prompt:
    """Return the options as continuations of the answer word alone, without passage and question.

    `unconditional` normalisation subtracts their log-likelihoods: domain-conditional pointwise
    mutual information (Holtzman et al. 2021, arXiv:2104.08315, section 3).
    """
    context = f"{_wording(item.language, protocol).answer}:"
    if protocol.chat:
        return Prompt(_chat(tokenizer, context, item, thinking=False), item.options)
    return Prompt(context, _spaced(item.options))


def answer_words(language: LanguageCode, protocol: Protocol) -> tuple[str, ...]:
    """Return the words that announce an answer: that of the prompt, and English."""
    return tuple(dict.fromkeys((_wording(language, protocol).answer, "Answer")))


def answer_labels(language: LanguageCode, protocol: Protocol) -> tuple[str, ...]:
    """Return the labels by which an answer in a language may name an option, in order."""
    labels = protocol.labels if protocol.shows_options else Labels.LETTERS
    return known_labels(language, labels)


def _wording(language: LanguageCode, protocol: Protocol) -> Wording:
    in_target = protocol.prompt_language == PromptLanguage.TARGET
    return wording(language if in_target else "eng_Latn")


def _reason_digit(words: Wording) -> str:
    """Return the instruction to reason and then to answer with a digit."""
    if words.reason_digit is None:
        raise ConfigError(
            f"prompts have no wording in {words.language!r} that asks to reason and to answer with "
            "a digit; expected prompt_language=english, labels=letters or labels=native."
        )
    return words.reason_digit


def _question(item: Item, protocol: Protocol, words: Wording) -> str:
    # An item without a passage has no line for it.
    passage = f"{words.passage}: {item.passage}\n" if item.passage else ""
    options = ""
    if protocol.shows_options:
        options = "".join(
            f"{label}: {option}\n"
            for label, option in zip(labels_of(item, protocol.labels), item.options, strict=True)
        )
    return f"{passage}{words.question}: {item.question.strip()}\n{options}"


def _choices(item: Item, protocol: Protocol) -> tuple[str, ...]:
    return labels_of(item, protocol.labels) if protocol.shows_options else item.options


def _spaced(choices: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f" {choice}" for choice in choices)


def _chat(tokenizer: Tokenizer | None, text: str, item: Item, *, thinking: bool) -> str:
    if tokenizer is None:
        raise ValueError("a chat prompt needs a tokenizer.")
    return render_chat(tokenizer, text, thinking, f"item {item.item_id!r} in {item.language}")
