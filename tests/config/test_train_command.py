"""Training commands: split without a shell, their placeholders replaced or refused by name."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from isogloss.config import FinetuneConfig, explain
from isogloss.config.train_command import Placeholder, command_facts, filled, split_words


def refusal(train: str) -> str:
    with pytest.raises(ValidationError) as caught:
        FinetuneConfig.model_validate({"engine": {"kind": "command", "train": train}})
    return explain(caught.value, FinetuneConfig)


def test_a_path_with_spaces_stays_one_word() -> None:
    words = split_words('"my trainer" --data={train} --out {output} {learning_rate}')
    values = {
        Placeholder.TRAIN: "/a b/train.jsonl",
        Placeholder.OUTPUT: "/a b/output",
        Placeholder.LEARNING_RATE: "0.0005",
    }
    assert filled(words, values) == [
        "my trainer", "--data=/a b/train.jsonl", "--out", "/a b/output", "0.0005",
    ]  # fmt: skip


def test_braces_that_are_no_placeholder_are_left_alone() -> None:
    command = """t --columns '{"prompt": "query"}' --cache ${HOME} {recipe} {output}"""
    values = {Placeholder.RECIPE: "r", Placeholder.OUTPUT: "o"}
    assert filled(split_words(command), values) == [
        "t", "--columns", '{"prompt": "query"}', "--cache", "${HOME}", "r", "o",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ("t {train} {outptu}", "engine.train should have no placeholder {outptu}; accepted are "),
        ("t {train}", "should have a `train` with {output}, the folder for the adapter, but"),
        ("t {output} {dev}", "should have a `train` with {train}, {train_chat}, {train_tokens} or"),
        ("t '{train} {output}", "engine.train should be words as in a shell (no closing quot"),
        ("  ", "engine.train should be a command"),
    ],
)
def test_unusable_commands_are_refused_before_anything_runs(train: str, sentence: str) -> None:
    assert sentence in refusal(train)


def test_what_a_command_reads_decides_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = Path("train.py")
    script.write_text("1", encoding="utf-8")
    command = "python train.py --config=missing.yaml {train} {output}"
    before = command_facts(command)
    assert command_facts(command) == before
    assert list(before["files"]) == ["train.py"]
    script.write_text("2", encoding="utf-8")
    assert command_facts(command) != before
