"""What an external trainer reads: items as JSONL in three layouts, and the recipe as JSON.

`text` has prompts and completions as texts, to be tokenised together and with the tokenizer's own
special tokens; `chat` has messages; `tokens` has token ids and labels, in which -100 marks tokens
without a loss. `tokens` is always what this process would train on, the other two are as far as
`Exactness` says.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from isogloss.compat.interfaces import Tokenizer
from isogloss.errors import ModelError
from isogloss.files import write_whole
from isogloss.prompts.chat import render_turns
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import encode, prefix_tokens
from isogloss.tasks import Item
from isogloss.training.recipe import MAX_GRADIENT_NORM, Recipe

IGNORED = -100  # the label of a token without a loss


class TextRow(NamedTuple):
    """A prompt and its right answer."""

    prompt: str
    completion: str


class TokenRow(NamedTuple):
    """The tokens of both, and those with a loss as labels."""

    input_ids: list[int]
    labels: list[int]


class Exactness(NamedTuple):
    """Whether each layout gives a trainer the prompts and answers of this process, to the token.

    Texts may have the tokens that a tokenizer puts after every text, and chats the end of a
    turn. Chats are rendered by the tokenizer's template without options.
    """

    text: bool
    chat: bool


@dataclass(frozen=True)
class TrainerItems:
    """Items as a trainer reads them; `users` are prompts without a chat template."""

    texts: list[TextRow]
    users: list[str]
    tokens: list[TokenRow]

    def write(self, text: Path, chat: Path, tokens: Path) -> None:
        """Write a file in each layout."""
        _write_lines(text, [row._asdict() for row in self.texts])
        _write_lines(
            chat,
            [
                {
                    "messages": [
                        {"role": "user", "content": user},
                        {"role": "assistant", "content": row.completion},
                    ]
                }
                for user, row in zip(self.users, self.texts, strict=True)
            ],
        )
        _write_lines(
            tokens,
            [{**row._asdict(), "attention_mask": [1] * len(row.input_ids)} for row in self.tokens],
        )


def trainer_items(items: Sequence[Item], protocol: Protocol, tokenizer: Tokenizer) -> TrainerItems:
    """The items as this process would train on them.

    Raises ModelError if the tokenizer or its chat template cannot present an item.
    """
    prompts = [prompt(item, protocol, tokenizer) for item in items]
    encoded = encode(tokenizer, prompts, chat=protocol.chat)
    plain = replace(protocol, chat=False)
    # A tokenizer would add its own beginning of sequence to that of a template.
    added = tokenizer.decode(prefix_tokens(tokenizer, chat=False)) if protocol.chat else ""
    texts, tokens = [], []
    for item, entry, ids in zip(items, prompts, encoded, strict=True):
        completion = entry.continuations[item.answer]
        texts.append(TextRow(entry.context.removeprefix(added), completion))
        sequence, start = ids.sequences[item.answer], ids.starts[item.answer]
        labels = [IGNORED] * start + list(sequence[start:])
        tokens.append(TokenRow(list(sequence), labels))
    return TrainerItems(texts, [prompt(item, plain).context for item in items], tokens)


def exactness(items: TrainerItems, protocol: Protocol, tokenizer: Tokenizer) -> Exactness:
    """Whether a trainer that tokenises texts or chats gets the tokens of `items`.

    Without a chat template in the protocol, chats are never exact.
    """
    texts = [f"{row.prompt}{row.completion}" for row in items.texts]
    prompts = tokenizer([row.prompt for row in items.texts]).input_ids
    text = all(map(_begins_with, tokenizer(texts).input_ids, prompts, items.tokens))
    return Exactness(text, protocol.chat and _chat_is_exact(items, tokenizer))


def _chat_is_exact(items: TrainerItems, tokenizer: Tokenizer) -> bool:
    try:
        rendered = [
            render_turns(tokenizer, user, row.completion)
            for user, row in zip(items.users, items.texts, strict=True)
        ]
    except ModelError:
        return False
    turns = tokenizer([both for _, both in rendered], add_special_tokens=False).input_ids
    prompts = tokenizer([first for first, _ in rendered], add_special_tokens=False).input_ids
    return all(map(_begins_with, turns, prompts, items.tokens))


def _begins_with(whole: Sequence[int], context: Sequence[int], row: TokenRow) -> bool:
    """Whether tokens begin with those of a row, and differ from its context where labels begin."""
    start = row.labels.count(IGNORED)
    same = list(whole[: len(row.input_ids)]) == row.input_ids
    shared = next(
        (at for at, (one, other) in enumerate(zip(context, whole, strict=False)) if one != other),
        min(len(context), len(whole)),
    )
    return same and shared == start


def recipe_facts(
    recipe: Recipe, protocol: Protocol, exact: Exactness, **facts: object
) -> dict[str, object]:
    """The content of the recipe file; `facts` are those of the model and of the data."""
    hyperparameters = {
        name: value
        for name, value in asdict(recipe).items()
        if name not in ("eval_every", "patience")
    }
    return {
        **facts,
        "hyperparameters": {
            **hyperparameters,
            "warmup_steps": recipe.warmup_steps,
            "schedule": "linear",
            "optimizer": "adamw",
            "weight_decay": 0.0,
            "max_gradient_norm": MAX_GRADIENT_NORM,
        },
        "loss": "completion",
        "chat": protocol.chat,
        "exact": exact._asdict() | {"tokens": True},
    }


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a mapping as JSON; atomic."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False).encode())


def _write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())
