"""Tokenisation of prompts and their choices, as in lm-evaluation-harness."""

from collections.abc import Sequence
from typing import NamedTuple

from isogloss.compat.interfaces import Tokenizer
from isogloss.errors import ModelError
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import Prompt, prompt
from isogloss.tasks import Item


class EncodedPrompt(NamedTuple):
    """Token ids of context plus continuation, per choice, and where each continuation starts."""

    sequences: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]


def bos_tokens(tokenizer: Tokenizer, chat: bool) -> list[int]:
    """Return the beginning-of-sequence token if the tokenizer adds one, else an empty list.

    Empty with `chat`: a chat template contains its own.
    """
    bos = tokenizer.bos_token_id
    if chat or bos is None:
        return []
    return [bos] if bos in tokenizer([""]).input_ids[0] else []


def encode(
    tokenizer: Tokenizer, prompts: Sequence[Prompt], *, chat: bool = False
) -> list[EncodedPrompt]:
    """Tokenise prompts with each of their continuations.

    As in lm-evaluation-harness, context and continuation are tokenised as one text and split at
    the length of the tokenised context. A beginning-of-sequence token comes first if the tokenizer
    adds one.
    """
    bos = bos_tokens(tokenizer, chat)
    texts = [entry.context for entry in prompts]
    texts += [entry.context + text for entry in prompts for text in entry.continuations]
    ids = iter(tokenizer(texts, add_special_tokens=False).input_ids) if texts else iter(())
    starts = [len(bos) + len(next(ids)) for _ in prompts]
    encoded = []
    for entry, start in zip(prompts, starts, strict=True):
        sequences = tuple(tuple(bos + next(ids)) for _ in entry.continuations)
        encoded.append(EncodedPrompt(sequences, (start,) * len(sequences)))
    return encoded


def letter_tokens(tokenizer: Tokenizer, items: Sequence[Item], protocol: Protocol) -> str:
    """Return the tokens by which letters are scored, as text: `' A' [586], ' B' [599], ...`.

    " A" and "A" are different tokens, and a tokenizer may lack either, so the letters are tokenised
    after the prompt of the item with the most options. Returns "" in `cloze` format, which has no
    letters. Raises ModelError if two letters have the same tokens or if a letter changes the tokens
    of the prompt before it.
    """
    if not protocol.shows_options or not items:
        return ""
    item = max(items, key=lambda item: len(item.options))
    entry = prompt(item, protocol, tokenizer)
    (encoded,) = encode(tokenizer, [entry], chat=protocol.chat)
    contexts = {sequence[: encoded.starts[0]] for sequence in encoded.sequences}
    tokens = [sequence[encoded.starts[0] :] for sequence in encoded.sequences]
    described = ", ".join(
        f"{text!r} {list(ids)}" for text, ids in zip(entry.continuations, tokens, strict=True)
    )
    if len(contexts) > 1 or not all(tokens) or len(set(tokens)) < len(tokens):
        raise ModelError(
            f"the tokenizer does not distinguish the letters of the choices after a prompt: "
            f"{described}."
        )
    return described
