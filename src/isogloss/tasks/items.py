"""What every task yields: multiple-choice questions on passages."""

from collections.abc import Callable
from dataclasses import dataclass

from isogloss.types import Format, Normalisation, Split


@dataclass(frozen=True)
class Item:
    """One question. `item_id` and `passage_id` (the cluster) are the same in all languages.

    `passage` is empty if the task has none; `answer` is an index into `options`.
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
    """An open multiple-choice set.

    `name` appears in tags and reports. `languages` are the codes that have data. `read` returns all
    items of a language's split. `format` and `normalisation` (of cloze) are the defaults for
    scoring. `parallel` states that items with one `item_id` are the same question in every
    language. `own_texts` states that questions or options are the task's own English texts, not
    data, which prompts in another language have in that language; with `english_only` they have no
    translations. `evaluation_only` states that the licence allows no training.
    """

    name: str
    languages: tuple[str, ...]
    read: Callable[[str, Split], list[Item]]
    format: Format
    normalisation: Normalisation
    parallel: bool = True
    own_texts: bool = False
    english_only: bool = False
    evaluation_only: bool = False
