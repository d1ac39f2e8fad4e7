"""Long inputs: prompts that do not fit a model's context window are named, never cut silently."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from isogloss.config import SharedConfig
from isogloss.errors import DataError
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import after_reasoning, prompt, reasoning_prompt
from isogloss.prompts.tokenisation import bos_tokens
from isogloss.tasks import Item
from isogloss.types import Reasoning

logger = logging.getLogger(__name__)


class Fitted(NamedTuple):
    """Items whose prompts fit, and the (language, item_id) of those whose passages were cut."""

    items: list[Item]
    shortened: frozenset[tuple[str, str]]


def context_window(model: LanguageModel, max_length: int | None) -> int:
    """Tokens that a prompt and what is generated may have: the model's, or fewer if asked for."""
    config = model.network.config.get_text_config()
    stated = [max_length, getattr(config, "max_position_embeddings", None)]
    # Tokenizers that do not know a limit state an astronomical one, which does no harm here.
    return int(min(value for value in (*stated, model.tokenizer.model_max_length) if value))


def fit_to_model(
    items: Sequence[Item], model: LanguageModel, protocol: Protocol, config: SharedConfig
) -> Fitted:
    """The items as they fit the model's context window, and a line that says how many were cut."""
    window = context_window(model, config.max_length)
    found = fit(items, model.tokenizer, protocol, window, config.long_inputs)
    if found.shortened:
        logger.info(f"{len(found.shortened)} passages shortened to fit {window:,} tokens")
    return found


def fit(
    items: Sequence[Item],
    tokenizer: Any,
    protocol: Protocol,
    window: int,
    long_inputs: Literal["refuse", "shorten"],
) -> Fitted:
    """The items, with passages shortened from their ends where a prompt is past `window` tokens.

    Raises DataError that counts and names such items if `long_inputs` is `refuse`, or if one does
    not fit even without its passage.
    """
    needed = _needed(items, tokenizer, protocol)
    long = [at for at, tokens in enumerate(needed) if tokens > window]
    if not long:
        return Fitted(list(items), frozenset())
    if long_inputs == "refuse":
        first = ", ".join(
            f"{items[at].item_id!r} in {items[at].language} ({needed[at]:,} tokens)"
            for at in long[:3]
        )
        more = f" and {len(long) - 3} more" if len(long) > 3 else ""
        raise DataError(
            f"{len(long)} of {len(items)} prompts are longer than the context window of {window:,} "
            f"tokens: {first}{more}; long_inputs=shorten cuts their passages."
        )
    fitted = list(items)
    for at in long:
        fitted[at] = _shorten(items[at], tokenizer, protocol, window)
    return Fitted(fitted, frozenset((items[at].language, items[at].item_id) for at in long))


def _shorten(item: Item, tokenizer: Any, protocol: Protocol, window: int) -> Item:
    """The item with the longest beginning of its passage that fits, by bisection."""

    def cut(length: int) -> Item:
        return replace(item, passage=item.passage[:length].rstrip())

    fits, too_long = 0, len(item.passage)
    if _needed([cut(fits)], tokenizer, protocol)[0] > window:
        raise DataError(
            f"item {item.item_id!r} in {item.language} does not fit the context window of "
            f"{window:,} tokens even without its passage."
        )
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if _needed([cut(middle)], tokenizer, protocol)[0] > window:
            too_long = middle
        else:
            fits = middle
    return cut(fits)


def _needed(items: Sequence[Item], tokenizer: Any, protocol: Protocol) -> list[int]:
    """Tokens of each item's longest sequence, the budget of generated ones included."""
    texts: list[str] = []
    ends: list[int] = []
    for item in items:
        if protocol.reasoning == Reasoning.COT:
            context = reasoning_prompt(item, protocol, tokenizer)
            entry = after_reasoning(item, protocol, context, "")
        else:
            entry = prompt(item, protocol, tokenizer)
        texts += [entry.context + continuation for continuation in entry.continuations]
        ends.append(len(texts))
    ids = tokenizer(texts, add_special_tokens=False).input_ids if texts else []
    lengths = [len(tokens) for tokens in ids]
    budget = protocol.max_new_tokens if protocol.generates else 0
    budget += len(bos_tokens(tokenizer, protocol.chat))
    starts = [0, *ends]
    return [max(lengths[start:end]) + budget for start, end in zip(starts[:-1], ends, strict=True)]
