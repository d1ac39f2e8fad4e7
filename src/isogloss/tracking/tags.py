"""The `isogloss.*` tags of runs: one type that stages write and that others read back.

Names and values are a contract with users and with earlier versions (docs/reference/runs.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import EnumType, StrEnum
from typing import TypeVar

from mlflow.entities import Run

from isogloss.errors import TrackingError
from isogloss.tracking.versions import Versions, parse_versions, versions_text
from isogloss.types import (
    Condition,
    EngineKind,
    Format,
    Labels,
    LanguageCode,
    Normalisation,
    PromptLanguage,
    Reasoning,
)

PREFIX = "isogloss."
NO_ADAPTER = "none"
WORDS_PER_TAG = 120  # ids of runs have 32 characters

T = TypeVar("T")


class RunKind(StrEnum):
    """What a run is: the tag `isogloss.kind`."""

    STUDY = "study"
    FINETUNE = "finetune"
    EVALUATE = "evaluate"
    EVALUATIONS = "evaluations"
    COMPARE = "compare"
    TUNE = "tune"
    TRIAL = "trial"
    IMPORT = "import"
    PLAN = "plan"


@dataclass(frozen=True, kw_only=True)
class RunTags:
    """Tags of a run that scores or trains; a field that is None has no tag.

    `adapter` is the sha256 of an adapter or `none`. `data_digest` covers all items, evaluated on or
    trained on; `language_digests` those of each language. `versions` are those of the components
    that decide the result, `libraries` those of the libraries it was computed with. `processes` is
    None unless several compute together, `max_length` unless passages were cut to it. `choices`
    names the tokens of the labels of options, `answer_labels` their kind, None if none are shown.
    `metric` is the one that an imported run was scored by. `training` says what an adapter was
    trained on and how, `training_items` is a digest of it. `engine`, `provider`, `server_version`,
    `served_model` and `server_settings` say what inference server computed, None for this process;
    `server_answer` has its log-probabilities after the first prompt, as JSON.
    `quick` is None unless the work was cut down for a look.
    """

    model: str | None = None
    revision: str | None = None
    source: LanguageCode | None = None
    adapter: str | None = None
    task: str | None = None
    format: Format | None = None
    answer_labels: Labels | None = None
    condition: Condition | None = None
    study: str | None = None
    fingerprint: str | None = None
    quick: bool | None = None
    prompt_version: str | None = None
    prompt_language: PromptLanguage | None = None
    normalisation: Normalisation | None = None
    chat: bool | None = None
    share_passages: bool | None = None
    template_date: str | None = None
    max_new_tokens: int | None = None
    max_length: int | None = None
    data_digest: str | None = None
    dev_digest: str | None = None
    language_digests: Mapping[LanguageCode, str] | None = None
    choices: str | None = None
    dtype: str | None = None
    attention: str | None = None
    processes: int | None = None
    engine: EngineKind | None = None
    provider: str | None = None
    server_version: str | None = None
    served_model: str | None = None
    server_settings: str | None = None
    server_answer: str | None = None
    seed: int | None = None
    recipe: str | None = None
    imported: str | None = None
    metric: str | None = None
    training: str | None = None
    training_items: str | None = None
    versions: Versions | None = None
    libraries: Versions | None = None

    @property
    def reasoning(self) -> Reasoning | None:
        """The reasoning of the condition; a tag of its own."""
        return self.condition.reasoning if self.condition else None

    def as_dict(self) -> dict[str, str]:
        """The tags as text by name, without the prefix; those without a value are left out."""
        digests = dict(self.language_digests or {})
        values: dict[str, object] = {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "reasoning": self.reasoning,
            "chat": None if self.chat is None else str(self.chat).lower(),
            "share_passages": "true" if self.share_passages else None,
            "quick": "true" if self.quick else None,
            "language_digests": " ".join(f"{code}:{digests[code]}" for code in digests),
            "versions": versions_text(self.versions or {}),
            "libraries": versions_text(self.libraries or {}),
        }
        return {name: str(value) for name, value in values.items() if value not in (None, "")}


def read_tags(run: Run) -> RunTags:
    """The tags of a run of any kind.

    Raises TrackingError if the value of a tag is not one that isogloss writes.
    """
    digests = tag(run, "language_digests")
    chat = tag(run, "chat")
    return RunTags(
        model=tag(run, "model"),
        revision=tag(run, "revision"),
        source=tag(run, "source"),
        adapter=tag(run, "adapter"),
        task=tag(run, "task"),
        format=_parsed(run, "format", Format),
        answer_labels=_parsed(run, "answer_labels", Labels),
        condition=_parsed(run, "condition", Condition),
        study=tag(run, "study"),
        fingerprint=tag(run, "fingerprint"),
        prompt_version=tag(run, "prompt_version"),
        prompt_language=_parsed(run, "prompt_language", PromptLanguage),
        normalisation=_parsed(run, "normalisation", Normalisation),
        chat=None if chat is None else chat == "true",
        share_passages=tag(run, "share_passages") == "true" or None,
        quick=tag(run, "quick") == "true" or None,
        template_date=tag(run, "template_date"),
        max_new_tokens=_parsed(run, "max_new_tokens", int),
        max_length=_parsed(run, "max_length", int),
        data_digest=tag(run, "data_digest"),
        dev_digest=tag(run, "dev_digest"),
        language_digests=dict(pair.split(":", 1) for pair in digests.split()) if digests else None,
        choices=tag(run, "choices"),
        dtype=tag(run, "dtype"),
        attention=tag(run, "attention"),
        processes=_parsed(run, "processes", int),
        engine=_parsed(run, "engine", EngineKind),
        provider=tag(run, "provider"),
        server_version=tag(run, "server_version"),
        served_model=tag(run, "served_model"),
        server_settings=tag(run, "server_settings"),
        server_answer=tag(run, "server_answer"),
        seed=_parsed(run, "seed", int),
        recipe=tag(run, "recipe"),
        imported=tag(run, "imported"),
        metric=tag(run, "metric"),
        training=tag(run, "training"),
        training_items=tag(run, "training_items"),
        versions=_parsed_versions(run, "versions"),
        libraries=_parsed_versions(run, "libraries"),
    )


def tag(run: Run, name: str) -> str | None:
    """The text of one tag, named without its prefix."""
    value: str | None = run.data.tags.get(f"{PREFIX}{name}")
    return value


def in_parts(name: str, words: Sequence[str]) -> dict[str, str]:
    """Tags, with prefix, of a list of words that one tag may be too short for.

    The first part is under `name`, the others under `name.2`, `name.3`, ...; `read_parts` joins
    them. MLflow's servers accept 5,000 to 8,000 characters per tag.
    """
    parts = [words[at : at + WORDS_PER_TAG] for at in range(0, len(words), WORDS_PER_TAG)]
    return prefixed(
        {
            name if number == 1 else f"{name}.{number}": " ".join(part)
            for number, part in enumerate(parts or [[]], 1)
        }
    )


def read_parts(run: Run, name: str) -> list[str]:
    """The words that `in_parts` has put into tags of a run."""
    words, number = (tag(run, name) or "").split(), 2
    while part := tag(run, f"{name}.{number}"):
        words += part.split()
        number += 1
    return words


def _parsed(run: Run, name: str, parse: Callable[[str], T]) -> T | None:
    text = tag(run, name)
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError:
        expected = ", ".join(parse) if isinstance(parse, EnumType) else "a whole number"
        raise TrackingError(
            f"run {run.info.run_id!r}: tag {PREFIX}{name} must be {expected} but is {text!r}."
        ) from None


def _parsed_versions(run: Run, name: str) -> dict[str, str] | None:
    text = tag(run, name)
    return None if text is None else parse_versions(text)


def prefixed(values: Mapping[str, str]) -> dict[str, str]:
    """Tags as MLflow has them, from names without the prefix."""
    return {f"{PREFIX}{name}": value for name, value in values.items()}
