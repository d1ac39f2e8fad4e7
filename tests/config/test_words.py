"""The words none, auto, all and file: each field gives each of them one meaning, or rejects it."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from isogloss.config import (
    ENTRY_POINTS,
    NONE_AS,
    Hyperparameters,
    MainConfig,
    SharedConfig,
    StudyComparison,
    StudyConfig,
    StudyTraining,
    as_text,
    explain,
)
from isogloss.config.study_files import ConfigError, read_study
from isogloss.config.words import WORDS, none_word

CLASSES = (*ENTRY_POINTS.values(), StudyConfig, StudyTraining, StudyComparison, Hyperparameters)
REQUIRED = {"study": "s", "adapter": "a", "path": "p"}
# Words that are values like others, by field. All other words must be rejected.
LITERAL = {
    "normalisation": {"none"},
    "chat": {"auto"},
    "dtype": {"auto"},
    "attention": {"auto"},
    "device_map": {"none", "auto"},
    "split": {"all"},
    "metrics": {"auto", "all"},
    "name": {"auto"},
    "register_as": {"auto"},
    # Names of columns in tables of other tools.
    "language": {"none", "all", "file"},
    "passage": {"none", "all", "file"},
    "metric": {"none", "all", "file"},
}
# Words that stand for a value, by class and field; all other words must be rejected.
STANDS_FOR = {
    (config_class, "source", "auto"): "arb_Arab"
    for config_class in CLASSES
    if issubclass(config_class, SharedConfig)
}
FIELDS = [(config_class, name) for config_class in CLASSES for name in config_class.model_fields]


OVERRIDES = [
    name
    for name in MainConfig.model_fields
    if name not in ("study", "experiment", "recipe", "dry_run")
]


def literal(config_class: type[BaseModel], name: str) -> set[str]:
    if config_class is MainConfig and name in OVERRIDES:
        return set(WORDS)  # `file` is none; the study file's own checks judge the others, see below
    if config_class is MainConfig and name == "recipe":
        return {"file"}
    return LITERAL.get(name, set())


def build(config_class: type[BaseModel], name: str, value: Any) -> Any:
    """The field's value in a configuration that sets it and what is required."""
    required = {
        key: REQUIRED[key]
        for key, field in config_class.model_fields.items()
        if field.is_required()
    }
    return getattr(config_class(**{**required, name: value}), name)


@pytest.mark.parametrize("config_class", CLASSES)
def test_a_word_means_none_or_itself_or_is_rejected(config_class: type[BaseModel]) -> None:
    for name, word in product(config_class.model_fields, WORDS):
        accepted = none_word(config_class.model_fields[name])
        if word == accepted:
            assert build(config_class, name, word) is None, name
        elif value := STANDS_FOR.get((config_class, name, word)):
            assert build(config_class, name, word) == value
        elif word in literal(config_class, name):
            assert build(config_class, name, word) == word, name
        else:
            with pytest.raises(ValidationError) as caught:
                build(config_class, name, word)
            message = explain(caught.value, config_class)
            assert name in message
            assert message.endswith(f", but got {word!r}.")
            assert accepted is None or f" {accepted!r}, but got" in message


@pytest.mark.parametrize("config_class", CLASSES)
def test_an_empty_value_is_rejected(config_class: type[BaseModel]) -> None:
    for name, field in config_class.model_fields.items():
        override = config_class is MainConfig and name in OVERRIDES
        is_name = isinstance(field.annotation, type) and not override
        for blank in ["", [], "  "] if is_name else ["", []]:
            with pytest.raises(ValidationError) as caught:
                build(config_class, name, blank)
            assert name in explain(caught.value, config_class)


def test_a_field_that_may_be_none_is_written_with_the_word_that_it_reads() -> None:
    for config_class, name in FIELDS:
        field = config_class.model_fields[name]
        if none_word(field):
            assert none_word(field) == NONE_AS[name] == as_text(name, None)
        elif not field.is_required():
            assert field.default is not None


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_word_for_main_means_what_it_means_in_a_study_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: s\n")
    for word in ("none", "auto", "all", " "):
        if word == none_word(StudyConfig.model_fields[name]):
            assert getattr(read_study(path, {name: word}), name) is None
        elif value := STANDS_FOR.get((StudyConfig, name, word)):
            assert getattr(read_study(path, {name: word}), name) == value
        elif word in literal(StudyConfig, name):
            assert getattr(read_study(path, {name: word}), name) == word
        else:
            with pytest.raises(ConfigError, match=f"{name} should"):
                read_study(path, {name: word})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("study: all", "study should be the name of a study, but got 'all'."),
        ("study: s\ncompare: {branch: all}",
         "compare.branch should be a branch such as Semitic or 'auto', but got 'all'."),
        ("study: s\nlanguages: heb_Hebr,all",
         "item 2 of languages should be a FLORES-200 code such as arb_Arab, or languages should be "
         "'all', but got 'all'."),
        ("study: s\nlanguages: ','", "languages should have at least one value or 'all'"),
        ("study: s\nlimit: none", "limit should be an integer or 'all', but got 'none'."),
        ("study: s\nformat: all",
         "format should be 'letter', 'cloze', 'generate' or 'auto', but got 'all'."),
        ("study: s\ndata_dir: auto", "data_dir should be a folder of data or 'none'"),
        ("study: s\ncontrol_source: auto",
         "control_source should be a FLORES-200 code such as arb_Arab or 'none', but got 'auto'."),
    ],
)  # fmt: skip
def test_a_study_file_with_the_wrong_word_is_rejected_in_one_sentence(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_study(path, {})
    assert message in str(caught.value)
