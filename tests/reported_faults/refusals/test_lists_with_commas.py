"""Lists of parameters: JSON or repeated options where an item contains a comma."""

from typing import Any

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, ValidationError

from isogloss.cli.command import stage_command
from isogloss.config import (
    ENTRY_POINTS,
    CompareConfig,
    EvaluateConfig,
    PlanConfig,
    StudyConfig,
    as_text,
    explain,
    is_separated,
)

LISTS = [
    (EvaluateConfig, "adapter"),
    (EvaluateConfig, "allow_base"),
    (EvaluateConfig, "languages"),
    (CompareConfig, "study"),
    (CompareConfig, "experiment"),
    (CompareConfig, "tags"),
    (CompareConfig, "runs"),
]
WAYS: dict[str, Any] = {
    "JSON": '["a,b=1", "c=2"]',
    "a list": ["a,b=1", "c=2"],
    "a tuple": ("a,b=1", "c=2"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("config_class", "name"), LISTS)
def test_an_item_may_contain_a_comma(config_class: type[BaseModel], name: str, way: str) -> None:
    config = config_class.model_validate({name: WAYS[way]})
    assert getattr(config, name) == ("a,b=1", "c=2")
    text = as_text(name, getattr(config, name))  # as it is logged, and in the command line
    assert text == '["a,b=1", "c=2"]'
    assert config_class.model_validate({name: text}) == config


@pytest.mark.parametrize(
    "items",
    [("a",), ("a", "b"), ("a,b",), ("a, b", "c"), ("[a]",), ('a"b,', "c\\"), ("ä,ö",), (" a", "b")],
)
def test_a_list_is_read_as_it_was_written(items: tuple[str, ...]) -> None:
    config = EvaluateConfig(adapter=items)
    assert config.adapter == items
    assert EvaluateConfig(adapter=as_text("adapter", items)) == config


def test_lists_without_commas_are_written_as_before() -> None:
    assert as_text("adapter", ("none", "a")) == "none,a"
    assert EvaluateConfig(adapter="none, a,").adapter == ("none", "a")
    assert as_text("adapter", EvaluateConfig().adapter) == "none"
    assert PlanConfig(control="[4,8]").control == PlanConfig(control="4,8").control == (4, 8)
    assert StudyConfig(study="s", seeds="[0, 1]").seeds == (0, 1)


@pytest.mark.parametrize("text", ['["a,b"', "[a,b]", '["a",]'])
def test_what_is_neither_json_nor_a_list_is_rejected_in_one_sentence(text: str) -> None:
    with pytest.raises(ValidationError) as error:
        EvaluateConfig(adapter=text)
    assert explain(error.value, EvaluateConfig) == (
        'adapter should be a JSON list such as ["a,b","c"], or separated by commas or \'none\', '
        f"but got {text!r}."
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--adapter", "a,b", "--adapter", "c"], ("a,b", "c")),
        (["--adapter", "a,b"], ("a", "b")),
        (["--adapter", '["a,b"]'], ("a,b",)),
        ([], None),
    ],
)
def test_options_may_be_repeated(options: list[str], expected: tuple[str, ...] | None) -> None:
    given: list[EvaluateConfig] = []
    command = stage_command("evaluate", EvaluateConfig, given.append)
    result = CliRunner().invoke(command, options, catch_exceptions=False)
    assert result.exit_code == 0
    assert given[0].adapter == expected


def test_every_list_may_be_repeated_and_nothing_else() -> None:
    for name, config_class in ENTRY_POINTS.items():
        command = stage_command(name, config_class, print)
        for option in command.params:
            if option.name in config_class.model_fields:
                assert isinstance(option, click.Option)
                field = config_class.model_fields[option.name]
                assert option.multiple == is_separated(field) == ("tuple" in str(field.annotation))
