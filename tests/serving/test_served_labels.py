"""Served rows have the labels that the adapter was trained with, or are refused one by one."""

import re
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from conftest import probe
from tiny_training import train_tiny

from isogloss.inference.predict import predict
from isogloss.models.adapters import attach
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol
from isogloss.serving.adapter_model import AdapterModel
from isogloss.types import Format, Labels

Served = Callable[[Labels], AdapterModel]


@pytest.fixture(scope="module")
def served(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A function that gives a tiny adapter as it is served, by labels."""
    folder = tmp_path_factory.mktemp("served")
    model = load(locate(str(model_folder("gemma3"))), "float32")
    train_tiny(model, folder)
    digest = attach(model, folder / "last")

    def make(labels: Labels) -> AdapterModel:
        stored = Protocol(Format.LETTER, labels=labels).as_dict()
        protocol = Protocol.from_dict(stored)
        return AdapterModel(model, digest, protocol, "arb_Arab", 4096, Lock(), False)

    return make


@pytest.mark.parametrize("labels", Labels)
def test_a_row_is_answered_as_evaluate_answers_its_item(served: Served, labels: Labels) -> None:
    items = probe("heb_Hebr", "test", 4)
    model = served(labels)
    rows: list[dict[Any, Any]] = [
        {"language": item.language, "passage": item.passage, "question": item.question,
         "options": list(item.options)} for item in items
    ]  # fmt: skip
    with model.model.using(model.digest):
        expected = predict(model.model, items, Protocol(Format.LETTER, labels=labels), "probe")
    answers = model.answer(rows)
    assert [answer.error for answer in answers] == [None] * 4
    assert [answer.choice for answer in answers] == [row.prediction for row in expected]


@pytest.mark.parametrize(
    ("labels", "changes", "message"),
    [
        (Labels.DIGITS, {"options": list("abcdefghij")}, "has 10 options, .* 9 labels, 1 to 9"),
        (Labels.NATIVE, {"language": "kaz_Cyrl"}, "'kaz_Cyrl' has no native labels"),
        (Labels.NATIVE, {"options": list("abcde"), "language": "mar_Deva"}, "there are 4 labels"),
    ],
)
def test_a_row_that_cannot_be_labelled_is_refused_alone(
    served: Served, labels: Labels, changes: dict[str, Any], message: str
) -> None:
    row: dict[Any, Any] = {"passage": "p", "question": "q?", "options": ["a", "b"]}
    bad, good = served(labels).answer([{**row, **changes}, row])
    assert bad.choice == -1
    assert re.search(message, str(bad.error))
    assert (good.error, good.choice >= 0) == (None, True)
