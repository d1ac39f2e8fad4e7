"""Tokenisation of prompts and their choices, scored where lm-evaluation-harness scores them."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from isogloss.compat.interfaces import Tokenizer
from isogloss.errors import ModelError
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.reasoning_blocks import marks_reasoning
from isogloss.prompts.render import Prompt, prompt
from isogloss.tasks import Item
from isogloss.types import Labels

SAMPLE = "Answer: 1"  # any text: shows what a tokenizer adds around it


class EncodedPrompt(NamedTuple):
    """Token ids of context plus continuation, per choice, and where each continuation starts."""

    sequences: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]


def prefix_tokens(tokenizer: Tokenizer, chat: bool) -> list[int]:
    """Return the tokens that the tokenizer puts before a text, such as beginning-of-sequence.

    What it puts after a text is left out: it would separate a prompt from its continuation. Empty
    with `chat`: a chat template contains its own. Raises ModelError if the tokenizer ends every
    text with tokens that cannot be left out.
    """
    plain, empty = tokenizer([SAMPLE, ""], add_special_tokens=False).input_ids
    if empty and plain[-len(empty) :] == empty and plain[: len(empty)] != empty:
        raise ModelError(
            f"the tokenizer ends every text with {tokenizer.decode(empty)!r} even without special "
            "tokens, so that nothing can continue a prompt."
        )
    if chat:
        return []
    (whole,) = tokenizer([SAMPLE]).input_ids
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return list(whole[:start])
    raise ModelError(
        f"the tokenizer does more than add special tokens around a text: {SAMPLE!r} is "
        f"{list(plain)} without them and {list(whole)} with them."
    )


def hidden_tokens(tokenizer: Tokenizer) -> frozenset[int] | None:
    """Return the special tokens that a text leaves out; None for all of them.

    Special tokens that mark a block of reasoning stay: without them a draft looks like an answer.
    """
    added = tokenizer.added_tokens_decoder.items()
    special = {at: token.content for at, token in added if token.special}
    names = frozenset(special.values())
    marks = {at for at, name in special.items() if marks_reasoning(name, names)}
    return frozenset(special.keys() - marks) if marks else None


def decoded(
    tokenizer: Tokenizer, rows: Sequence[Sequence[int]], hidden: frozenset[int] | None
) -> list[str]:
    """Return the text of each row of tokens, without the `hidden_tokens`."""
    if hidden is None:
        return tokenizer.batch_decode(rows, skip_special_tokens=True)
    shown = [[token for token in row if token not in hidden] for row in rows]
    return tokenizer.batch_decode(shown, skip_special_tokens=False)


def encode(
    tokenizer: Tokenizer, prompts: Sequence[Prompt], *, chat: bool = False
) -> list[EncodedPrompt]:
    """Tokenise prompts with each of their continuations, behind the tokenizer's `prefix_tokens`.

    Context and continuation are tokenised as one text. What is scored starts where the tokens of
    the context and of all these texts first differ, or after the context: a token across the join,
    such as " A" after a context that ends in a space, is scored as a whole, and all choices are
    scored from the same position, so that they are probabilities given the same tokens.
    lm-evaluation-harness moves spaces at the end of a context to the continuation, with the same
    tokens scored, except that a space with a token of its own counts as context here.
    Raises ModelError if a choice has no tokens, or if the tokens of two different choices are
    equal.
    """
    if not prompts:
        return []
    prefix = prefix_tokens(tokenizer, chat)
    texts = [entry.context for entry in prompts]
    texts += [entry.context + text for entry in prompts for text in entry.continuations]
    ids = iter(tokenizer(texts, add_special_tokens=False).input_ids)
    contexts = [[*prefix, *next(ids)] for _ in prompts]
    encoded = []
    for entry, context in zip(prompts, contexts, strict=True):
        sequences = tuple((*prefix, *next(ids)) for _ in entry.continuations)
        start = _first_scored(context, sequences)
        _check_choices(entry, sequences, start)
        encoded.append(EncodedPrompt(sequences, (start,) * len(sequences)))
    return encoded


def _first_scored(context: Sequence[int], sequences: Sequence[Sequence[int]]) -> int:
    """Return the length of the longest beginning that a context and all sequences share."""
    whole = tuple(context)
    if all(sequence[: len(whole)] == whole for sequence in sequences):
        return len(whole)
    columns = enumerate(zip(whole, *sequences, strict=False))
    shortest = min(map(len, (whole, *sequences)))
    return next((at for at, tokens in columns if len(set(tokens)) > 1), shortest)


def _check_choices(entry: Prompt, sequences: Sequence[Sequence[int]], start: int) -> None:
    """Raise ModelError if the model could not score or tell apart the choices of a prompt."""
    if start == 0:
        raise ModelError(
            f"the tokenizer leaves no token before the choices of the prompt {entry.context!r}, so "
            "that the model cannot score them."
        )
    for text, sequence in zip(entry.continuations, sequences, strict=True):
        if len(sequence) <= start:
            raise ModelError(
                f"the tokenizer has no tokens for the choice {text!r} after the prompt that ends "
                f"in {entry.context[-40:]!r}."
            )
    if len(set(sequences)) == len(sequences):
        return
    texts: dict[Sequence[int], str] = {}
    for text, sequence in zip(entry.continuations, sequences, strict=True):
        other = texts.setdefault(sequence, text)
        if _compared(other) != _compared(text):
            raise ModelError(
                f"the tokenizer does not distinguish the choices {other!r} and {text!r}: both are "
                f"{list(sequence[start:])} after the prompt that ends in {entry.context[-40:]!r}."
            )


def _compared(text: str) -> str:
    """Return a choice without case, compatibility forms and repeated spaces, as it may be equal."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def label_tokens(tokenizer: Tokenizer, items: Sequence[Item], protocol: Protocol) -> str:
    """Return the tokens by which labels are scored, as text: `' A' [586], ' B' [599], ...`.

    " A" and "A" are different tokens, and a tokenizer may lack either, so the labels are tokenised
    after the prompt of the item with the most options; of each language where labels are `native`,
    with those of different labels separated by semicolons. Returns "" in `cloze` format, which has
    no labels. Raises ModelError if two labels have the same tokens.
    """
    if not protocol.shows_options:
        return ""
    longest: dict[str, Item] = {}
    for item in items:
        group = item.language if protocol.labels == Labels.NATIVE else ""
        if group not in longest or len(item.options) > len(longest[group].options):
            longest[group] = item
    prompts = [prompt(item, protocol, tokenizer) for item in longest.values()]
    described = []
    for entry, encoded in zip(prompts, encode(tokenizer, prompts, chat=protocol.chat), strict=True):
        tokens = [sequence[encoded.starts[0] :] for sequence in encoded.sequences]
        described.append(
            ", ".join(
                f"{text!r} {list(ids)}"
                for text, ids in zip(entry.continuations, tokens, strict=True)
            )
        )
    return "; ".join(dict.fromkeys(described))
