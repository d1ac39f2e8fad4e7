"""Values that no one means: each is refused in one short sentence, quickly, by its name."""

import math
import time
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from isogloss.config import (
    CompareConfig,
    EvaluateConfig,
    FinetuneConfig,
    PlanConfig,
    RegisterConfig,
    TuneConfig,
    explain,
)
from isogloss.config.study_files import read_study
from isogloss.errors import ConfigError
from isogloss.files import user_path
from isogloss.yaml_files import LARGEST_YAML

LONGEST = 400  # characters of a message about one value


def refusal(config_class: type[BaseModel], **values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        config_class.model_validate(values)
    return explain(caught.value, config_class)


COUNTS = [
    (FinetuneConfig, "steps"),
    (FinetuneConfig, "batch_size"),
    (FinetuneConfig, "rank"),
    (FinetuneConfig, "alpha"),
    (FinetuneConfig, "limit"),
    (FinetuneConfig, "eval_every"),
    (FinetuneConfig, "dev_limit"),
    (FinetuneConfig, "checkpoint_every"),
    (EvaluateConfig, "max_length"),
    (EvaluateConfig, "max_new_tokens"),
    (EvaluateConfig, "seed"),
    (EvaluateConfig, "test_items"),
    (TuneConfig, "trials"),
    (TuneConfig, "measurements"),
    (PlanConfig, "items"),
    (PlanConfig, "tokens"),
]
NOT_COUNTS = [-1, 2**63, 2**70, 10**400, "9" * 5000, "x" * 10**6, True, 1.5, math.inf, math.nan, []]


@pytest.mark.parametrize("value", NOT_COUNTS, ids=lambda value: f"{type(value).__name__}")
@pytest.mark.parametrize(("config_class", "name"), COUNTS)
def test_numbers_have_bounds(config_class: type[BaseModel], name: str, value: object) -> None:
    message = refusal(config_class, **{name: value})
    assert message.startswith(f"{name} should be ")
    assert "but got" in message
    assert len(message) < LONGEST
    assert "\n" not in message


@pytest.mark.parametrize("value", [math.inf, math.nan, "inf", 1e300, 0, -1e-9, True, "1e400"])
def test_a_learning_rate_is_a_small_positive_number(value: object) -> None:
    assert refusal(FinetuneConfig, learning_rate=value).startswith("learning_rate should be ")


@pytest.mark.parametrize("length", [300, 1001, 10_000, 10**6])
@pytest.mark.parametrize(
    ("config_class", "name", "others"),
    [
        (EvaluateConfig, "study", {}),
        (EvaluateConfig, "experiment", {}),
        (FinetuneConfig, "register_as", {}),
        (RegisterConfig, "name", {"adapter": "a"}),
        (RegisterConfig, "alias", {"adapter": "a"}),
    ],
)
def test_names_have_a_length(
    config_class: type[BaseModel], name: str, others: dict[str, str], length: int
) -> None:
    message = refusal(config_class, **{name: "a" * length}, **others)
    assert message.startswith(f"{name} should have at most ")
    assert len(message) < LONGEST


@pytest.mark.parametrize("name", ["model", "data_dir", "source", "languages", "adapter"])
def test_texts_have_a_length(name: str) -> None:
    message = refusal(EvaluateConfig, **{name: "a" * 10_000})
    assert len(message) < LONGEST


@pytest.mark.parametrize("name", ["a/b", "a:b", "/", "models:/x"])
def test_a_registered_model_has_a_name_that_mlflow_accepts(name: str) -> None:
    for message in (
        refusal(FinetuneConfig, register_as=name),
        refusal(RegisterConfig, name=name, adapter="a"),
    ):
        assert "should be a name without '/' and ':'" in message


@pytest.mark.parametrize("value", [",", " , ", "[]", "[[", "[" * 100_000, '["a"', "[1e999"])
def test_lists_that_are_none(value: str) -> None:
    assert refusal(EvaluateConfig, languages=value).startswith("languages should ")


def test_many_faults_are_counted() -> None:
    message = refusal(CompareConfig, **{f"unknown_{number}": 1 for number in range(5000)})
    assert message.splitlines()[-1] == "and 4,990 more such faults."
    assert len(message.splitlines()) == 11


def alias_bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for number in range(1, 12):
        name, before = chr(97 + number), chr(96 + number)
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


STUDIES = {
    "alias bomb": alias_bomb(),
    "merge": "d: &d {steps: 1}\nfinetune: {<<: *d}",
    "5,000 lists": "study: " + "[" * 5000 + "]" * 5000,
    "100,000 lists": "study: " + "[" * 100_000,
    "3,000 mappings": "study: " + "{a: " * 3000,
    "NUL": 'study: "a\0b"',
    "a key twice": "study: a\nstudy: b",
    "a key of a section twice": "study: a\nfinetune: {steps: 1, steps: 2}",
    "another type": "study: !!python/object/apply:os.system [ls]",
    "5,000 digits": "study: a\nseed: " + "9" * 5000,
    "30 MB": "study: a\n# " + "x" * 30_000_000,
    "a long key": "a" * 100_000 + ": 1",
    "a list": "- study",
    "nothing": "",
    "true for 1": "study: a\nlimit: true",
    "a seed twice": "study: a\nseeds: [1, 2, 1]",
    "a negative seed": "study: a\nseeds: [-1, 2]",
    "a negative seed as text": 'study: a\nseeds: "2,-1"',
    "its own control": "study: a\nsource: heb_Hebr\ncontrol_source: heb_Hebr",
    "a line end in a name": 'study: "a\\nb"',
    "a date": "study: 2020-01-01",
}


@pytest.mark.parametrize("content", STUDIES.values(), ids=STUDIES)
def test_study_files_as_weapons(content: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content.encode())
    begun = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        read_study(path, {})
    assert time.monotonic() - begun < 3
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 2 * LONGEST + len(str(path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_study_files_in_another_encoding(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes("study: é".encode(encoding))
    with pytest.raises(ConfigError, match=r"not UTF-8|special characters"):
        read_study(path, {})


def test_yaml_within_the_limits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: a\n#" + "x" * (LARGEST_YAML - 100), encoding="utf-8")
    assert read_study(path, {}).study == "a"
    path.write_text("study: a\nseeds: [1, 2]\n", encoding="utf-8")
    assert read_study(path, {}).seeds == (1, 2)


def test_the_home_of_an_unknown_user_is_a_path_that_does_not_exist() -> None:
    assert user_path("~no-such-user/model") == Path("~no-such-user/model")
    assert user_path("~/model") == Path.home() / "model"
