"""The tag contract: what stages write is what others read back, with the names users filter by."""

import re
from dataclasses import fields
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from isogloss.errors import TrackingError
from isogloss.tracking.tags import RunKind, RunTags, prefixed, read_tags, tag
from isogloss.types import Condition, EngineKind, Format, Labels, Normalisation, PromptLanguage

ALL = RunTags(
    model="m",
    revision="r",
    source="arb_Arab",
    adapter="a" * 64,
    task="probe",
    format=Format.LETTER,
    answer_labels=Labels.DIGITS,
    condition=Condition.TUNED_COT,
    study="s",
    fingerprint="f" * 64,
    prompt_version="2",
    prompt_language=PromptLanguage.TARGET,
    normalisation=Normalisation.UNCONDITIONAL,
    chat=False,
    template_date="2024-07-26",
    max_new_tokens=256,
    max_length=2048,
    data_digest="d",
    dev_digest="e",
    language_digests={"heb_Hebr": "0123456789", "eng_Latn": "abcdefabcd"},
    choices="' A' [586], ' B' [599]",
    dtype="float32",
    attention="sdpa",
    processes=2,
    engine=EngineKind.VLLM,
    provider="vllm",
    server_version="0.32.0",
    served_model="tiny",
    server_settings="prompts: ids; labels: exact",
    server_answer='{"5": -0.5}',
    seed=0,
    recipe="40 steps of 16",
    imported="results.csv",
    metric="acc_norm",
    training="probe letter english chat float32",
    training_items="0123456789abcdef",
    versions={"prompts": "2", "scoring": "1"},
    libraries={"torch": "2.13.0+cpu"},
    share_passages=True,
    quick=True,
)


def run_with(**tags: str) -> Run:
    with mlflow.start_run() as run:
        mlflow.set_tags(prefixed(tags))
    return mlflow.get_run(run.info.run_id)


def test_every_field_survives_writing_and_reading() -> None:
    unset = [field.name for field in fields(RunTags) if getattr(ALL, field.name) == field.default]
    assert unset == []
    assert read_tags(run_with(**ALL.as_dict())) == ALL


def test_tags_have_the_names_and_values_of_the_contract() -> None:
    assert ALL.as_dict() == {
        "model": "m",
        "revision": "r",
        "source": "arb_Arab",
        "adapter": "a" * 64,
        "task": "probe",
        "format": "letter",
        "answer_labels": "digits",
        "condition": "tuned+cot",
        "reasoning": "cot",
        "study": "s",
        "fingerprint": "f" * 64,
        "prompt_version": "2",
        "prompt_language": "target",
        "normalisation": "unconditional",
        "chat": "false",
        "template_date": "2024-07-26",
        "max_new_tokens": "256",
        "max_length": "2048",
        "data_digest": "d",
        "dev_digest": "e",
        "language_digests": "heb_Hebr:0123456789 eng_Latn:abcdefabcd",
        "choices": "' A' [586], ' B' [599]",
        "dtype": "float32",
        "attention": "sdpa",
        "processes": "2",
        "engine": "vllm",
        "provider": "vllm",
        "server_version": "0.32.0",
        "served_model": "tiny",
        "server_settings": "prompts: ids; labels: exact",
        "server_answer": '{"5": -0.5}',
        "seed": "0",
        "recipe": "40 steps of 16",
        "imported": "results.csv",
        "metric": "acc_norm",
        "training": "probe letter english chat float32",
        "training_items": "0123456789abcdef",
        "versions": "prompts:2 scoring:1",
        "libraries": "torch:2.13.0+cpu",
        "share_passages": "true",
        "quick": "true",
    }


def test_a_field_without_a_value_has_no_tag() -> None:
    assert RunTags(condition=Condition.BASE, choices="").as_dict() == {
        "condition": "base",
        "reasoning": "direct",
    }
    assert RunTags().as_dict() == {}
    assert read_tags(run_with()) == RunTags()


def test_a_tag_is_read_by_its_name_without_the_prefix() -> None:
    run = run_with(kind="evaluate")
    assert run.data.tags["isogloss.kind"] == "evaluate"
    assert tag(run, "kind") == "evaluate"
    assert tag(run, "model") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("condition", "isogloss.condition must be base, tuned, base.cot, tuned.cot but is 'x'"),
        ("seed", "isogloss.seed must be a whole number but is 'x'"),
    ],
)
def test_a_value_that_isogloss_never_writes_is_rejected(name: str, message: str) -> None:
    run = run_with(**{name: "x"})
    with pytest.raises(TrackingError, match=f"{run.info.run_id}.*{message}"):
        read_tags(run)


def test_every_kind_and_tag_is_in_the_reference() -> None:
    reference = (Path(__file__).parents[2] / "docs/reference/runs.md").read_text("utf-8")
    documented = set(re.findall(r"`(?:isogloss)?\.(\w+)`", reference))
    assert {field.name for field in fields(RunTags)} | {"reasoning", "kind"} <= documented
    (kinds,) = re.findall(r"^\| `isogloss.kind` .*", reference, re.MULTILINE)
    assert {f"`{kind}`" for kind in RunKind} <= set(re.findall(r"`\w+`", kinds))
