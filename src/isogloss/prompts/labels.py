"""Labels of options: what a prompt shows before each option, and what an answer repeats."""

import string
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from pydantic import BaseModel

from isogloss.errors import ConfigError, DataError
from isogloss.tasks.items import Item
from isogloss.types import Labels, LanguageCode
from isogloss.yaml_files import parse_yaml

NATIVE = "native_labels.yaml"
LATIN_SCRIPT = "_Latn"  # the end of the codes of languages that it writes
# One digit each: a model that says "10" has said "1" first, so that "1" would get its probability.
DIGITS = "123456789"


class _List(BaseModel, extra="forbid", frozen=True):
    languages: tuple[LanguageCode, ...]
    labels: str


class _Lists(BaseModel, extra="forbid", frozen=True):
    """The file of native labels."""

    lists: tuple[_List, ...]


def known_labels(code: LanguageCode, labels: Labels) -> tuple[str, ...]:
    """Return all labels of that kind in a language, in order.

    Raises ConfigError for native labels of a language that has none.
    """
    if labels == Labels.DIGITS:
        return tuple(DIGITS)
    if labels == Labels.LETTERS or code.endswith(LATIN_SCRIPT):
        return tuple(string.ascii_uppercase)
    if code not in native_labels():
        raise ConfigError(
            f"labels is 'native', but {code!r} has no native labels; expected labels=letters, "
            f"labels=digits, a language in Latin script or one of {', '.join(native_labels())}."
        )
    return native_labels()[code]


def labels_of(item: Item, labels: Labels) -> tuple[str, ...]:
    """Return the labels of an item's options, in order.

    Raises DataError for an item with more options than there are labels; see also `known_labels`.
    """
    known = known_labels(item.language, labels)
    if len(item.options) > len(known):
        raise DataError(
            f"item {item.item_id!r} in {item.language} has {len(item.options)} options, but with "
            f"labels={labels} there are {len(known)} labels, {known[0]} to {known[-1]}."
        )
    return known[: len(item.options)]


def require_labels(items: Iterable[Item], labels: Labels) -> None:
    """Raise ConfigError or DataError for an item whose options cannot all be labelled."""
    for item in items:
        labels_of(item, labels)


@cache
def native_labels() -> Mapping[LanguageCode, tuple[str, ...]]:
    """Return the native labels of each language that has some of its own, sorted by code."""
    text = (files("isogloss.prompts.wording") / NATIVE).read_text(encoding="utf-8")
    lists = parse_yaml(text, NATIVE, _Lists).lists
    by_language = {code: tuple(row.labels.split()) for row in lists for code in row.languages}
    return dict(sorted(by_language.items()))
