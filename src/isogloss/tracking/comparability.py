"""Comparability: what evaluate runs must have in common to be compared.

One list serves comparisons and the base runs beside an adapter's results.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial

from mlflow.entities import Run

from isogloss.tracking.tags import tag
from isogloss.tracking.versions import parse_versions


class Scope(Enum):
    """Which runs must agree: all, those of a model, or of a model and reasoning, or source."""

    ALL_RUNS = auto()
    MODEL = auto()
    REASONING = auto()
    SOURCE = auto()


@dataclass(frozen=True)
class Key:
    """Something that runs must agree in. `read` returns None where a run does not say."""

    name: str
    scope: Scope
    read: Callable[[Run], str | None]


@dataclass(frozen=True)
class Difference:
    """A key or language in which runs differ: the runs by value. `where` is the scope in words."""

    name: str
    where: str
    runs: Mapping[str, Sequence[Run]]


def _read_tag(run: Run, name: str, absent: str | None = None) -> str | None:
    """A tag; `absent` is what a run of isogloss means without it. An imported run says nothing."""
    value = tag(run, name)
    return absent if value is None and tag(run, "imported") is None else value


def _read_version(run: Run, component: str) -> str | None:
    return parse_versions(tag(run, "versions") or "").get(component)


def _read_recipe(run: Run) -> str | None:
    """The recipe but the number of items, which a study may set for each source."""
    recipe = _read_tag(run, "recipe")
    return None if recipe is None else re.sub(r" of \d+ items per language", "", recipe)


KEYS: tuple[Key, ...] = (
    *(
        Key(name, Scope.ALL_RUNS, partial(_read_tag, name=name))
        for name in (
            "task",
            "format",
            "normalisation",
            "metric",
            "prompt_version",
            "prompt_language",
        )
    ),
    Key("quick", Scope.ALL_RUNS, partial(_read_tag, name="quick", absent="false")),
    Key(
        "answer_labels", Scope.ALL_RUNS, partial(_read_tag, name="answer_labels", absent="letters")
    ),
    *(
        Key(f"version of {component}", Scope.ALL_RUNS, partial(_read_version, component=component))
        for component in ("scoring", "generation", "parser", "probe")
    ),
    *(
        Key(name, Scope.MODEL, partial(_read_tag, name=name))
        for name in ("revision", "dtype", "chat", "training")
    ),
    Key("recipe", Scope.MODEL, _read_recipe),
    *(
        Key(name, Scope.SOURCE, partial(_read_tag, name=name))
        for name in ("recipe", "training_items")
    ),
    Key("attention", Scope.MODEL, partial(_read_tag, name="attention", absent="auto")),
    Key("engine", Scope.MODEL, partial(_read_tag, name="engine", absent="this process")),
    Key("server_settings", Scope.MODEL, partial(_read_tag, name="server_settings")),
    Key("max_new_tokens", Scope.REASONING, partial(_read_tag, name="max_new_tokens")),
    Key("max_length", Scope.REASONING, partial(_read_tag, name="max_length", absent="whole")),
)


LANGUAGE_DIGEST_LENGTH = 10  # characters, in the tag of a run
OF_ADAPTERS = ("recipe", "training", "training_items")


def model_names(runs: Sequence[Run]) -> dict[str, str]:
    """One name for all names of a model: its first one in `runs`.

    A model has several names if it was copied, or is a folder here and on the Hub there: names of
    one revision are of one model. An imported run has no revision.
    """
    names: dict[str, str] = {}
    by_revision: dict[str, str] = {}
    for run in runs:
        name, revision = model_name(run), tag(run, "revision")
        own = names.setdefault(name, name)
        first = own if revision is None else by_revision.setdefault(revision, own)
        if own != first:
            for known in (names, by_revision):
                known.update({key: first for key, value in known.items() if value == own})
    return names


def model_name(run: Run) -> str:
    """The name of a run's model, as it was given."""
    return tag(run, "model") or "unknown"


def key_differences(runs: Sequence[Run]) -> Iterator[Difference]:
    """Keys in which runs of one scope differ; runs that do not say are left out."""
    names = model_names(runs)
    for key in KEYS:
        by_scope: dict[str, dict[str, list[Run]]] = {}
        for run in runs:
            if (value := key.read(run)) is not None:
                where = _where(run, names[model_name(run)], key.scope)
                by_scope.setdefault(where, {}).setdefault(value, []).append(run)
        for where, by_value in by_scope.items():
            if len(by_value) > 1:
                yield Difference(key.name, where, by_value)


def item_differences(runs: Sequence[Run]) -> list[Difference]:
    """Languages whose items differ; runs without digests are left out."""
    by_language: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        for code, digest in language_digests(run).items():
            by_language.setdefault(code, {}).setdefault(digest, []).append(run)
    return [
        Difference(code, "", by_digest)
        for code, by_digest in by_language.items()
        if len(by_digest) > 1
    ]


def language_digests(run: Run) -> dict[str, str]:
    """Digests of the items of a run by language; empty if it has none."""
    return dict(pair.split(":", 1) for pair in (tag(run, "language_digests") or "").split())


def is_base_of(base: Run, run: Run) -> bool:
    """Whether two runs of one model and reasoning agree in every key, whatever the model's name.

    A value that only one of them has is a difference, unless adapters alone have it.
    """
    if tag(base, "reasoning") != tag(run, "reasoning"):
        return False
    return all(key.read(base) == key.read(run) for key in KEYS if key.name not in OF_ADAPTERS)


def _where(run: Run, model: str, scope: Scope) -> str:
    if scope == Scope.ALL_RUNS:
        return ""
    if scope == Scope.MODEL:
        return f" of {model}"
    if scope == Scope.SOURCE:
        return f" of {model} on {tag(run, 'source')}"
    return f" of {model} with {tag(run, 'reasoning')} reasoning"
