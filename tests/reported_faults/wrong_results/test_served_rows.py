"""Served rows: a bad row fails alone, and a choice is what its probabilities or its text say."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import probe
from tiny_training import train_tiny

from isogloss.errors import ModelError
from isogloss.inference.generation import Generated
from isogloss.inference.predict import predict
from isogloss.models.adapters import attach
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.registry.pyfunc_model import PyfuncModel
from isogloss.serving.adapter_model import AdapterModel, probabilities
from isogloss.types import Format, Normalisation, Reasoning

Row = dict[str, Any]
Served = Callable[..., PyfuncModel]
PROTOCOLS = {
    "letter": Protocol("letter"),
    "letter after reasoning": Protocol("letter", reasoning=Reasoning.COT, max_new_tokens=4),
    "cloze": Protocol("cloze"),
    "generate": Protocol("generate", max_new_tokens=4),
    "generate in the target language": Protocol(
        "generate", prompt_language="target", max_new_tokens=4
    ),
}


@pytest.fixture(scope="module")
def served(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A function that gives a tiny adapter as it is served, by protocol."""
    folder = tmp_path_factory.mktemp("served")
    model = load(locate(str(model_folder("gemma3"))), "float32")
    train_tiny(model, folder)
    digest = attach(model, folder / "last")

    def make(protocol: Protocol) -> PyfuncModel:
        served = PyfuncModel()
        served.adapter_model = AdapterModel(
            model, digest, protocol, "arb_Arab", 4096, Lock(), False
        )
        return served

    return make


def answers(model: PyfuncModel, rows: list[Row]) -> list[Row]:
    return model.predict(None, pd.DataFrame(rows)).to_dict("records")


def good_rows(number: int = 3) -> list[Row]:
    return [
        {
            "passage": item.passage,
            "question": item.question,
            "options": list(item.options),
            "language": code,
        }
        for code in ("arb_Arab", "heb_Hebr")
        for item in probe(code, "test", number)
    ]


LONG = "a library " * 3_000
BAD: dict[str, tuple[Row, str]] = {
    "27 options": ({"options": [f"{n}" for n in range(27)]}, "options must be a list of 2 to"),
    "no options": ({"options": []}, "options must be a list of 2 to"),
    "one option": ({"options": ["x"]}, "options must be a list of 2 to"),
    "options missing": ({"options": None}, "options must be a list of 2 to"),
    "options NaN": ({"options": float("nan")}, "options must be a list of 2 to"),
    "options as text": ({"options": "A, B"}, "options must be a list of 2 to"),
    "options as an object": ({"options": {"a": "b"}}, "options must be a list of 2 to"),
    "options as a set": ({"options": {"a"}}, "options must be a list of 2 to"),
    "an array without dimension": ({"options": np.array("ab")}, "options must be a list of 2 to"),
    "a series": ({"options": pd.Series(["a", "b"])}, "options must be a list of 2 to"),
    "nested options": ({"options": [["a"], ["b"]]}, r"options[0] must be text but is ['a']."),
    "a table of options": (
        {"options": np.array([["a", "b"], ["c", "d"]])},
        "options[0] must be text but is ['a', 'b'].",
    ),
    "an option NaN": ({"options": ["a", float("nan")]}, "options[1] must be text but is missing."),
    "a numeric option": ({"options": [3, "x"]}, "options[0] must be text but is 3."),
    "a passage NaN": ({"passage": float("nan")}, "passage must be text"),
    "a passage NA": ({"passage": pd.NA}, "passage must be text"),
    "a nested passage": ({"passage": [["x"]]}, "passage must be text"),
    "bytes": ({"passage": b"x"}, "passage must be text"),
    "a numeric question": ({"question": 5}, "question must be text but is 5."),
    "an unknown language": ({"language": "xx"}, "unknown language 'xx'"),
    "a list as language": ({"language": ["eng_Latn"]}, "language must be text"),
    "a passage beyond the window": ({"passage": LONG}, "passage, question and options must fit"),
    "a question beyond the window": ({"question": LONG}, "passage, question and options must fit"),
    "an option beyond the window": (
        {"options": [LONG, "b"]},
        "passage, question and options must fit",
    ),
    "half of a surrogate pair": (
        {"options": ["a", "x\ud800"]},
        "options[1] must be text but holds half of a surrogate pair.",
    ),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_bad_rows_fail_alone_and_good_rows_are_answered_as_alone(served: Served, name: str) -> None:
    model, good = served(PROTOCOLS[name]), good_rows(1)
    alone = [answers(model, [row])[0] for row in good]
    bad = [{**good[0], **change} for change, _ in BAD.values()]
    got = answers(model, [good[0], *bad, good[1]])
    for answer, (_, message) in zip(got[1:-1], BAD.values(), strict=True):
        assert answer["error"].startswith(message)
        assert answer["error"].endswith(".")
        assert "\n" not in answer["error"]
        assert (answer["choice"], answer["answer"], answer["text"]) == (-1, None, None)
        assert (answer["probabilities"], answer["valid"]) == ([], False)
    assert_same([got[0], got[-1]], alone)


@pytest.mark.parametrize(
    ("name", "accepted"),
    [("letter", True), ("cloze", True), ("generate", False), ("letter after reasoning", False)],
)
@pytest.mark.parametrize("n_options", [10, 11, 26])
def test_more_than_ten_options_are_answered_where_no_text_is_parsed_and_refused_alone_elsewhere(
    served: Served, name: str, accepted: bool, n_options: int
) -> None:
    model, (good, _) = served(PROTOCOLS[name]), good_rows(1)
    many = {**good, "options": [f"{number}." for number in range(n_options)]}
    one, other = answers(model, [many, good])
    assert_same([other], answers(model, [good]))
    if accepted or n_options == 10:
        assert one["error"] is None
        n_probabilities = 0 if name == "generate" else n_options
        assert len(one["probabilities"]) == n_probabilities
    else:
        assert one["error"] == f"options must be a list of 2 to 10 texts but has {n_options}."


ODD: dict[str, Row] = {
    "equal options": {"options": ["a", "a", "b"]},
    "options of marks": {"options": [".", "?"]},
    "options of numerals": {"options": ["½", "Ⅷ", "①"]},
    "options of invisible characters": {"options": ["\u200b", "\u200c"]},
    "options of combining marks": {"options": ["\u0301", "\u0301a"]},
    "line breaks": {"options": ["a\nb", "\nc"], "question": "a\r\u2028b"},
    "null characters": {"passage": "a\0b", "question": "\0"},
    "an array": {"options": np.array(["a", "b"], dtype=object)},
    "a tuple": {"options": ("a", "b")},
}


@pytest.mark.parametrize("name", ["letter", "cloze", "generate"])
def test_odd_texts_are_answered_beside_others(served: Served, name: str) -> None:
    model, good = served(PROTOCOLS[name]), good_rows(1)
    odd = [{**good[0], **change} for change in ODD.values()]
    got = answers(model, [good[0], *odd, good[1]])
    assert [answer["error"] for answer in got] == [None] * len(got)
    assert_same([got[0], got[-1]], [answers(model, [row])[0] for row in good])


def assert_same(got: list[Row], expected: list[Row]) -> None:
    """Equal up to rounding of what is computed together."""
    for one, other in zip(got, expected, strict=True):
        assert one.pop("probabilities") == pytest.approx(other["probabilities"], abs=1e-6)
        assert one == {key: value for key, value in other.items() if key != "probabilities"}
        assert one["error"] is None


@pytest.mark.parametrize("error", [ModelError("scores are not numbers."), ValueError("a\nb")])
def test_a_row_on_which_the_model_fails_gets_its_own_error(
    served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    model, good = served(PROTOCOLS["letter"]), good_rows()
    expected = answers(model, good)
    calls = []

    def failing(network: Any, items: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(len(items))
        if any(item.question == "fail" for item in items):
            raise error
        return predict(network, items, *arguments, **options)

    monkeypatch.setattr("isogloss.serving.adapter_model.predict", failing)
    got = answers(model, [*good[:4], {**good[0], "question": "fail"}, *good[4:]])
    failed = got.pop(4)
    assert failed["error"] == (
        "scores are not numbers."
        if isinstance(error, ModelError)
        else "the model cannot answer this row (ValueError: a b)."
    )
    assert (failed["choice"], failed["probabilities"]) == (-1, [])
    assert_same(got, expected)
    assert calls == [4, 2, 2, 1, 1, 3]  # Arabic rows by halves, then the Hebrew ones at once


def test_a_row_that_the_chat_template_refuses_gets_its_own_error(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, good = served(PROTOCOLS["letter"]), good_rows(1)
    expected = answers(model, good)

    def refusing(item: Any, *arguments: Any) -> Any:
        if item.question == "refuse":
            raise RuntimeError("Conversation roles must alternate")
        return prompt(item, *arguments)

    monkeypatch.setattr("isogloss.inference.context_window.prompt", refusing)
    got = answers(model, [good[0], {**good[0], "question": "refuse"}, good[1]])
    assert "Conversation roles must alternate" in got.pop(1)["error"]
    assert_same(got, expected)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error_of_their_row(
    served: Served, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    model, good = served(PROTOCOLS["cloze"]), good_rows(1)
    expected = answers(model, good)

    def broken(network: Any, items: Any, *arguments: Any, **options: Any) -> Any:
        predictions = predict(network, items, *arguments, **options)
        if items[0].language == "arb_Arab":
            predictions[0].choice_logprobs[1] = value
        return predictions

    monkeypatch.setattr("isogloss.serving.adapter_model.predict", broken)
    got = answers(model, good)
    assert "not finite" in got[0]["error"]
    assert (got[0]["choice"], got[0]["probabilities"]) == (-1, [])
    assert_same(got[1:], expected[1:])


@pytest.mark.parametrize("normalisation", list(Normalisation))
@pytest.mark.parametrize("format", [Format.LETTER, Format.CLOZE])
def test_the_choice_is_the_most_probable_option(
    served: Served, format: Format, normalisation: Normalisation
) -> None:
    model = served(Protocol(format, normalisation))
    rows = good_rows(6)
    for number, row in enumerate(rows):  # of very different lengths
        row["options"] = [
            option * (1 + (number + at) % 4) for at, option in enumerate(row["options"])
        ]
    for row, answer in zip(rows, answers(model, rows), strict=True):
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-12)
        assert answer["choice"] == int(np.argmax(answer["probabilities"]))
        assert answer["answer"] == row["options"][answer["choice"]]
        assert answer["text"] is None


def test_probabilities_are_those_of_the_normalised_scores(served: Served) -> None:
    model = served(Protocol(Format.CLOZE, Normalisation.LENGTH))
    raw = served(Protocol(Format.CLOZE, Normalisation.NONE))
    row = {**good_rows(1)[0], "options": ["x", "a long option of many tokens, longer than others"]}
    total = np.log(answers(raw, [row])[0]["probabilities"])
    by_character = np.log(answers(model, [row])[0]["probabilities"])
    with model.adapter_model.model.using(model.adapter_model.digest):
        item = model.adapter_model._item(0, row)
        (prediction,) = predict(
            model.adapter_model.model, [item], model.adapter_model.protocol, task=""
        )
    sums = np.array(prediction.choice_logprobs)
    assert np.diff(total) == pytest.approx(np.diff(sums), abs=1e-4)
    scores = sums / [len(option) for option in row["options"]]
    assert np.diff(by_character) == pytest.approx(np.diff(scores), abs=1e-6)
    assert (sums.argmax(), scores.argmax()) == (0, 1)  # the case in which they contradict
    assert answers(model, [row])[0]["choice"] == 1


@pytest.mark.parametrize(
    "scores",
    [
        [-1.0, -1.0, -2.0],
        [-2.0, -1.0, -1.0],
        [-0.1, np.nextafter(-0.1, 0), -0.1],
        [-1000.0, np.nextafter(-1000.0, 0), -2000.0],
        [-1e-17, 0.0],
        [0.0, -1e-17],
        [-800.0, 0.0, -1600.0],
        [*[-1e-17] * 25, 0.0],
    ],
)
def test_ties_are_resolved_alike_in_scores_and_probabilities(scores: list[float]) -> None:
    found = probabilities(np.array(scores))
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert found.argmax() == np.argmax(scores)


@pytest.mark.parametrize(
    ("text", "choice", "valid"), [(" B", 1, True), ("C.", 2, True), ("none of them", -1, False)]
)
def test_a_generated_choice_comes_with_its_text_and_without_probabilities_of_another(
    served: Served, monkeypatch: pytest.MonkeyPatch, text: str, choice: int, valid: bool
) -> None:
    monkeypatch.setattr(
        "isogloss.inference.backend.generate",
        lambda model, contexts, *_, **__: [Generated(text, True) for _ in contexts],
    )
    row = good_rows(1)[0]
    (answer,) = answers(served(PROTOCOLS["generate"]), [row])
    assert answer == {
        "choice": choice,
        "answer": row["options"][choice] if choice >= 0 else None,
        "probabilities": [],
        "valid": valid,
        "text": text,
        "error": None,
    }


def test_after_reasoning_the_text_is_given_and_the_choice_is_the_most_probable_letter(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "The second.\nAnswer: B"
    monkeypatch.setattr(
        "isogloss.inference.backend.generate",
        lambda model, contexts, *_, **__: [Generated(text, True) for _ in contexts],
    )
    (answer,) = answers(served(PROTOCOLS["letter after reasoning"]), good_rows(1)[:1])
    assert (answer["text"], answer["valid"]) == (text, True)
    assert answer["choice"] == int(np.argmax(answer["probabilities"]))
