"""Context windows: prompts that are too long are reported, and passages cut only on request."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from heapq import nlargest
from typing import TYPE_CHECKING, Literal, NamedTuple

from isogloss.compat.interfaces import ModelConfig, Tokenizer
from isogloss.config import SharedConfig
from isogloss.errors import DataError, ModelError
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import (
    Prompt,
    after_reasoning,
    prompt,
    reasoning_opened,
    reasoning_prompt,
)
from isogloss.prompts.tokenisation import EncodedPrompt, encode
from isogloss.tasks import Item
from isogloss.types import Reasoning

if TYPE_CHECKING:  # torch takes seconds to import
    from isogloss.models.language_model import LanguageModel

logger = logging.getLogger(__name__)

NAMED_ITEMS = 3  # in the message about prompts that are too long
LONGEST = 4  # items of each language whose prompts are tokenised before a study


class Fitted(NamedTuple):
    """Items whose prompts fit, and the (language, item_id) of those whose passages were cut."""

    items: list[Item]
    shortened: frozenset[tuple[str, str]]


# Names of limits in configurations. Sparse attention with `index_topk` tokens, or with a
# `keep_window_size`, lets later tokens decide which ones count as soon as there are more of them.
LIMITS = ("max_position_embeddings", "index_topk", "keep_window_size")


def context_window(model: "LanguageModel", max_length: int | None) -> int:
    """Return the most tokens of a prompt and its generated text: the model's, or `max_length`."""
    return window_of(model.network.config, model.tokenizer, max_length)


def window_of(config: ModelConfig, tokenizer: Tokenizer, max_length: int | None) -> int:
    """Return `context_window` of a model by its configuration and tokenizer alone."""
    text_config = config.get_text_config()
    limits = [max_length, *(getattr(text_config, name, None) for name in LIMITS)]
    # A tokenizer without a limit states an astronomical one, which has no effect here.
    return int(min(limit for limit in (*limits, tokenizer.model_max_length) if limit))


def fit_to_model(
    items: Sequence[Item], model: "LanguageModel", protocol: Protocol, config: SharedConfig
) -> Fitted:
    """Fit the items into the model's context window and log how many passages were cut.

    Raises DataError for prompts that are too long (see `fit`), and ModelError for one with a token
    for which the model has no embedding.
    """
    n_embeddings = model.network.get_input_embeddings().num_embeddings
    # Tokenizers often have a few more tokens than their model has embeddings, which do not occur in
    # prompts, such as those of images.
    if max(model.tokenizer.get_vocab().values()) >= n_embeddings:
        encoded = encoded_prompts(items, model.tokenizer, protocol)
        _require_embeddings(items, encoded, n_embeddings, model.tokenizer, model.location.name)
    window = context_window(model, config.max_length)
    fitted = fit(items, model.tokenizer, protocol, window, config.long_inputs)
    if fitted.shortened:
        logger.info(f"{len(fitted.shortened)} passages shortened to fit {window:,} tokens")
    return fitted


def check_fit(
    items: Sequence[Item],
    model_config: ModelConfig,
    tokenizer: Tokenizer,
    protocol: Protocol,
    config: SharedConfig,
) -> None:
    """Raise what `fit_to_model` would raise, without weights, from the longest prompts.

    Only the LONGEST items of each language are tokenised, by their texts in UTF-8, which tokens
    follow closely within a language.
    """
    by_language: dict[str, list[Item]] = {}
    for item in items:
        by_language.setdefault(item.language, []).append(item)
    sample = [
        item for rows in by_language.values() for item in nlargest(LONGEST, rows, key=_n_bytes)
    ]
    encoded = encoded_prompts(sample, tokenizer, protocol)
    n_embeddings = getattr(model_config.get_text_config(), "vocab_size", None)
    if n_embeddings is not None:
        _require_embeddings(sample, encoded, n_embeddings, tokenizer, config.model)
    window = window_of(model_config, tokenizer, config.max_length)
    if max(_lengths(encoded, protocol)) > window:
        fit(items, tokenizer, protocol, window, config.long_inputs)


def _n_bytes(item: Item) -> int:
    return len("".join((item.passage, item.question, *item.options)).encode())


def _require_embeddings(
    items: Sequence[Item],
    encoded: Sequence[EncodedPrompt],
    n_embeddings: int,
    tokenizer: Tokenizer,
    model_name: str,
) -> None:
    """Raise ModelError if a prompt has a token for which the model has no embedding."""
    for item, entry in zip(items, encoded, strict=True):
        token = max(max(sequence) for sequence in entry.sequences)
        if token >= n_embeddings:
            raise ModelError(
                f"model {model_name!r} has {n_embeddings:,} embeddings, but its tokenizer "
                f"gives token {token:,} ({tokenizer.decode([token])!r}) in the prompt of "
                f"item {item.item_id!r} in {item.language}; use the model's own tokenizer."
            )


def fit(
    items: Sequence[Item],
    tokenizer: Tokenizer,
    protocol: Protocol,
    window: int,
    long_inputs: Literal["refuse", "shorten"],
) -> Fitted:
    """Return the items, with the ends of passages cut where a prompt exceeds `window` tokens.

    Raises DataError if a prompt is too long and `long_inputs` is `refuse`, or if an item does not
    fit even without its passage.
    """
    lengths = prompt_lengths(items, tokenizer, protocol)
    too_long = [index for index, length in enumerate(lengths) if length > window]
    if not too_long:
        return Fitted(list(items), frozenset())
    if long_inputs == "refuse":
        named = ", ".join(
            f"{items[index].item_id!r} in {items[index].language} ({lengths[index]:,} tokens)"
            for index in too_long[:NAMED_ITEMS]
        )
        n_others = len(too_long) - NAMED_ITEMS
        others = f" and {n_others} more" if n_others > 0 else ""
        raise DataError(
            f"{len(too_long)} of {len(items)} prompts are longer than the context window of "
            f"{window:,} tokens: {named}{others}; long_inputs=shorten cuts their passages."
        )
    fitted = list(items)
    for index in too_long:
        fitted[index] = _shorten(items[index], tokenizer, protocol, window)
    return Fitted(fitted, frozenset((items[at].language, items[at].item_id) for at in too_long))


def prompt_lengths(items: Sequence[Item], tokenizer: Tokenizer, protocol: Protocol) -> list[int]:
    """Return the tokens of each item's longest prompt with a choice, including generated text.

    Raises ModelError if the tokenizer or its chat template cannot present an item.
    """
    return _lengths(encoded_prompts(items, tokenizer, protocol), protocol)


def _lengths(encoded: Sequence[EncodedPrompt], protocol: Protocol) -> list[int]:
    generated = protocol.max_new_tokens if protocol.generates else 0
    return [max(map(len, entry.sequences)) + generated for entry in encoded]


def encoded_prompts(
    items: Sequence[Item], tokenizer: Tokenizer, protocol: Protocol
) -> list[EncodedPrompt]:
    """Return each item's prompt with its choices, after empty reasoning if there is reasoning."""
    prompts: list[Prompt] = []
    for item in items:
        if protocol.reasoning == Reasoning.COT:
            context = reasoning_prompt(item, protocol, tokenizer)
            opened = reasoning_opened(protocol, tokenizer)
            prompts.append(after_reasoning(item, protocol, context, "", opened))
        else:
            prompts.append(prompt(item, protocol, tokenizer))
    return encode(tokenizer, prompts, chat=protocol.chat)


def _shorten(item: Item, tokenizer: Tokenizer, protocol: Protocol, window: int) -> Item:
    """Return the item with the longest beginning of its passage that fits, by bisection."""

    def cut(n_characters: int) -> Item:
        return replace(item, passage=item.passage[:n_characters].rstrip())

    def fits(n_characters: int) -> bool:
        return prompt_lengths([cut(n_characters)], tokenizer, protocol)[0] <= window

    if not fits(0):
        raise DataError(
            f"item {item.item_id!r} in {item.language} does not fit the context window of "
            f"{window:,} tokens even without its passage."
        )
    longest, too_long = 0, len(item.passage)
    while too_long - longest > 1:
        middle = (longest + too_long) // 2
        if fits(middle):
            longest = middle
        else:
            too_long = middle
    return cut(longest)
