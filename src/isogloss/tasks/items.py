"""What every task yields: one multiple-choice question after another."""

from collections.abc import Callable
from dataclasses import dataclass

from isogloss.types import Format, Normalisation, Split


@dataclass(frozen=True)
class Item:
    """One question. `item_id` and `passage_id` (the cluster) are parallel across languages.

    `passage` is empty where there is none; `answer` is an index into `options`.
    """

    item_id: str
    passage_id: str
    language: str
    passage: str
    question: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Task:
    """A parallel multiple-choice set, opened.

    `name` stands in tags and reports; `languages` are the codes that have data; `read` yields all
    items of a language's split. `format` and `normalisation` (of cloze) are how its choices are
    scored unless something else is asked for. `parallel` says that items of one `item_id` are the
    same question in every language.
    """

    name: str
    languages: tuple[str, ...]
    read: Callable[[str, Split], list[Item]]
    format: Format
    normalisation: Normalisation
    parallel: bool = True
