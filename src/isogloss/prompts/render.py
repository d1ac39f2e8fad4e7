"""Prompts: an item as the text a model continues, and the continuations that are its choices.

The frame is lm-evaluation-harness's for Belebele (P:, Q:, A: to D:, Answer:), in English or in the
language of the item. PROMPT_VERSION is part of every fingerprint: a change here, or in the wording
of a language, raises it.
"""

import random
import string
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from isogloss.prompts.protocol import Protocol
from isogloss.prompts.wording import Wording, wording
from isogloss.tasks.items import Item
from isogloss.types import PromptLanguage

PROMPT_VERSION = "2"


class Prompt(NamedTuple):
    """A context and one continuation for each choice; the model's answer is the likeliest."""

    context: str
    continuations: tuple[str, ...]


def words_for(language: str, protocol: Protocol) -> Wording:
    """The words of the frame; ConfigError if they are asked for in a language that has none."""
    return wording(language if protocol.prompt_language == PromptLanguage.TARGET else "eng_Latn")


def require_wording(languages: Iterable[str], prompt_language: PromptLanguage) -> None:
    """Raise ConfigError for a language in which a prompt is wanted and cannot be worded."""
    if prompt_language == PromptLanguage.TARGET:
        for code in languages:
            wording(code)


def as_shown(
    items: Iterable[Item], prompt_language: PromptLanguage, shuffle_seed: int | None
) -> list[Item]:
    """The items with the texts and the order of options that prompts show.

    What a task itself says in English is put into the language of the prompt; a `shuffle_seed` has
    the options dealt anew. ConfigError if a prompt is wanted in a language that has no wording.
    """
    shown = list(items)
    if prompt_language == PromptLanguage.TARGET:
        shown = [localised(item) for item in shown]
    if shuffle_seed is not None:
        shown = [shuffle_options(item, shuffle_seed) for item in shown]
    return shown


def localised(item: Item) -> Item:
    """The item with what its task says in English put into its own language.

    Only a task's own texts are translated (sib200's question and topics), never the data's.
    """
    texts = wording(item.language).texts
    return replace(
        item,
        question=texts.get(item.question, item.question),
        options=tuple(texts.get(option, option) for option in item.options),
    )


def prompt(item: Item, protocol: Protocol, tokenizer: Any = None) -> Prompt:
    """The prompt of an item: choices are letters, or the options' texts in `cloze` format.

    With `protocol.chat` the context is the user's turn in the tokenizer's chat template, and the
    choices begin the assistant's (without the space before them, as in lm-evaluation-harness).
    """
    words = words_for(item.language, protocol)
    context = f"{_question(item, protocol, words)}{words.answer}:"
    choices = _choices(item, protocol)
    if protocol.chat:
        return Prompt(_chat(tokenizer, context, thinking=False), choices)
    return Prompt(context, _spaced(choices))


def reasoning_prompt(item: Item, protocol: Protocol, tokenizer: Any = None) -> str:
    """The context after which a model is to reason, and then to answer."""
    words = words_for(item.language, protocol)
    ask = words.reason_letter if protocol.shows_options else words.reason_text
    request = f"{_question(item, protocol, words)}{ask.format(answer=words.answer)}"
    if protocol.chat:
        return _chat(tokenizer, request, thinking=True)
    return f"{request}\n{words.reasoning}:"


def after_reasoning(item: Item, protocol: Protocol, context: str, reasoning: str) -> Prompt:
    """The prompt that forces a choice once the model has reasoned.

    `context` is that of `reasoning_prompt`, `reasoning` what was generated up to the answer.
    """
    answer = words_for(item.language, protocol).answer
    return Prompt(f"{context}{reasoning.rstrip()}\n{answer}:", _spaced(_choices(item, protocol)))


def unconditional_prompt(item: Item, protocol: Protocol, tokenizer: Any = None) -> Prompt:
    """The options without passage and question, after the answer's word alone.

    Its log-likelihoods are what `unconditional` normalisation subtracts: domain-conditional
    pointwise mutual information (Holtzman et al. 2021, arXiv:2104.08315, section 3).
    """
    words = words_for(item.language, protocol)
    context = f"{words.answer}:"
    if protocol.chat:
        return Prompt(_chat(tokenizer, context, thinking=False), item.options)
    return Prompt(context, _spaced(item.options))


def answer_words(language: str, protocol: Protocol) -> tuple[str, ...]:
    """The words that announce an answer: those of the frame, and English."""
    return tuple(dict.fromkeys((words_for(language, protocol).answer, "Answer")))


def _question(item: Item, protocol: Protocol, words: Wording) -> str:
    # An item without a passage has no line for it.
    passage = f"{words.passage}: {item.passage}\n" if item.passage else ""
    listed = ""
    if protocol.shows_options:
        listed = "".join(
            f"{letter}: {option}\n"
            for letter, option in zip(letters(item), item.options, strict=True)
        )
    return f"{passage}{words.question}: {item.question.strip()}\n{listed}"


def _choices(item: Item, protocol: Protocol) -> tuple[str, ...]:
    return letters(item) if protocol.shows_options else item.options


def _spaced(choices: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f" {choice}" for choice in choices)


def letters(item: Item) -> tuple[str, ...]:
    """The letters of an item's options, from A on."""
    return tuple(string.ascii_uppercase[: len(item.options)])


def shuffle_options(item: Item, seed: int) -> Item:
    """The item with its options in an order drawn by seed and item, the same in every language."""
    order = list(range(len(item.options)))
    random.Random(f"options/{seed}/{item.item_id}").shuffle(order)
    return replace(
        item,
        options=tuple(item.options[place] for place in order),
        answer=order.index(item.answer),
    )


def _chat(tokenizer: Any, text: str, thinking: bool) -> str:
    # `enable_thinking` is Qwen 3's switch; templates that do not know it ignore it.
    return str(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
    )
