"""Configurations as text, and errors in plain sentences."""

from typing import Annotated

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from isogloss.config import (
    ENTRY_POINTS,
    CompareConfig,
    FinetuneConfig,
    PlanConfig,
    RegisterConfig,
    StudyConfig,
    as_text,
    command_line,
    explain,
)
from isogloss.config.engine import Engine
from isogloss.config.study import StudyComparison, StudyTraining


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_defaults_as_text_mean_the_defaults(name: str) -> None:
    fields = ENTRY_POINTS[name].model_fields
    required = {key: "x" for key, field in fields.items() if field.is_required()}
    texts = {
        key: as_text(key, field.default) for key, field in fields.items() if not field.is_required()
    }
    assert ENTRY_POINTS[name](**required, **texts) == ENTRY_POINTS[name](**required)


def test_every_field_has_a_description() -> None:
    for config_class in (*ENTRY_POINTS.values(), StudyConfig):
        for name, field in config_class.model_fields.items():
            assert field.description, f"{config_class.__name__}.{name}"


@pytest.mark.parametrize(
    ("config_class", "values", "message"),
    [
        (FinetuneConfig, {"step": 3}, "unknown parameter 'step'; did you mean 'steps'?"),
        (RegisterConfig, {"adapter": "a", "zzz": 1},
         "unknown parameter 'zzz'; expected one of adapter, name, alias."),
        (StudyConfig, {"study": "s", "compare": {"margins": 0.1}},
         "unknown parameter 'compare.margins'; did you mean 'compare.margin'?"),
        (StudyConfig, {"study": "s", "compare": 3},
         "compare should be a mapping of parameters, but got 3."),
        (StudyConfig, {}, "study is required."),
        (StudyConfig, {"study": 3}, "study should be text, but got 3."),
        (FinetuneConfig, {"steps": "2.5"}, "steps should be an integer or 'auto', but got '2.5'."),
        (FinetuneConfig, {"dropout": "1"}, "dropout should be less than 1 or 'auto', but got '1'."),
        (FinetuneConfig, {"gradient_checkpointing": "maybe"},
         "gradient_checkpointing should be true or false, but got 'maybe'."),
        (FinetuneConfig, {"seed": -1}, "seed should be at least 0, but got -1."),
        (CompareConfig, {"condition": "base"},
         "condition should be 'tuned', 'base+cot' or 'tuned+cot', but got 'base'; did you mean 'base+cot'?"),
        (PlanConfig, {"margin": "3"},
         "margin should be less than 1 (a fraction: 0.03 is three points), but got '3'."),
        (CompareConfig, {"margin": "60%"},
         "margin should be a fraction below 1, or a percentage of the mean gain, at most 50%, such "
         "as '20%', but got '60%'."),
        (PlanConfig, {"margin": "20%", "gain": "0"},
         "margin 20% is relative to `gain`, which is zero; give a fraction instead."),
        (PlanConfig, {"margin": "20%", "like": "0123"},
         "margin 20% is relative to `gain`, which `like` replaces; give a fraction instead."),
        (PlanConfig, {"control": "4,1"}, "item 2 of control should be at least 2, but got '1'."),
        (PlanConfig, {"related": "1", "items": "0"},
         "related should be at least 2 or 'auto', but got '1'.\n"
         "items should be at least 1 or 'auto', but got '0'."),
    ],
)  # fmt: skip
def test_errors_name_the_parameter_what_is_accepted_and_the_value(
    config_class: type[BaseModel], values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        config_class.model_validate(values)
    assert explain(caught.value, config_class) == message


def test_a_command_line_has_what_differs_from_the_defaults() -> None:
    config = FinetuneConfig(steps=3, limit=None, gradient_checkpointing=True, register_as="auto")
    assert command_line("finetune", config) == (
        "mlflow run . -e finetune --env-manager local -P source=arb_Arab -P steps=3 "
        "-P gradient_checkpointing=true -P register_as=auto"
    )
    assert "-P adapter=a -P alias=none" in command_line(
        "register", RegisterConfig(adapter="a", alias="none")
    )


def test_sections_of_a_study_are_logged_as_they_are() -> None:
    values = StudyConfig(study="s", finetune={"steps": 3}).model_dump(mode="json")
    assert as_text("finetune", values["finetune"]).startswith("{'steps': 3, 'batch_size': 16")
    assert as_text("engine", {"kind": "vllm", "base_url": "http://host:1/v1"}).count("vllm") == 1


def sections_of(config_class: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The parameters themselves, and the sections that have fields of their own, by name."""
    sections: dict[str, type[BaseModel]] = {"": config_class}
    if "engine" in config_class.model_fields:
        sections["engine"] = Engine
    if config_class is StudyConfig:
        sections |= {"finetune": StudyTraining, "compare": StudyComparison}
    return sections


def accepted_words(field: FieldInfo) -> list[str]:
    """The words of a closed set, from the JSON schema that pydantic writes for a field."""
    schema = TypeAdapter(Annotated[field.annotation, field]).json_schema()  # type: ignore[name-defined]
    parts = [schema, *schema.get("anyOf", []), *schema.get("$defs", {}).values()]
    if any(part.get("type") == "object" for part in parts):  # a section, whose fields are tested
        return []
    constants = [part["const"] for part in parts if "const" in part]
    words = [word for part in parts for word in part.get("enum", [])]
    return [word for word in (*words, *constants) if isinstance(word, str)]


CLOSED = [
    (config_class, section, name, word)
    for config_class in (*ENTRY_POINTS.values(), StudyConfig)
    for section, section_class in sections_of(config_class).items()
    for name, field in section_class.model_fields.items()
    for word in accepted_words(field)
    if len(word) > 3
]


def test_closed_sets_are_those_of_tasks_formats_engines_and_more() -> None:
    names = {f"{section}.{name}".strip(".") for _, section, name, _ in CLOSED}
    assert {
        *("task", "format", "labels", "normalisation", "prompt_language", "chat", "dtype", "split"),
        *("engine.kind", "condition", "missing", "metrics", "launcher", "objective", "propose"),
        *("finetune.keep", "reasoning", "attention", "device_map", "long_inputs"),
    } <= names


@pytest.mark.parametrize(("config_class", "section", "name", "word"), CLOSED)
def test_every_misspelled_word_of_a_closed_set_is_recognised(
    config_class: type[BaseModel], section: str, name: str, word: str
) -> None:
    wrong = word[:-2] + word[-1]  # without the last character but one
    values: dict[str, object] = {section: {name: wrong}} if section else {name: wrong}
    with pytest.raises(ValidationError) as raised:
        config_class.model_validate({"study": "s", "adapter": "a", "path": "p", **values})
    (line,) = [line for line in explain(raised.value, config_class).splitlines() if wrong in line]
    assert f"but got {wrong!r}; did you mean " in line
    assert repr(word) in line.partition("did you mean")[2]
