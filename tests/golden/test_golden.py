"""The outputs of a component do not change without its version, which is in fingerprints."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from golden import stored
from golden.components import COMPONENTS, Component
from isogloss import version


@pytest.mark.parametrize("name", COMPONENTS)
def test_outputs_do_not_change_without_the_version(name: str) -> None:
    component = COMPONENTS[name]
    assert stored.problem(name, component, component.outputs()) is None


def test_every_component_is_guarded() -> None:
    constants = {name for name in vars(version) if name.endswith("_VERSION")}
    assert constants == {component.constant for component in COMPONENTS.values()}


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Component:
    monkeypatch.setattr(stored, "FOLDER", tmp_path)
    component = Component("X_VERSION", {"x": "1"}, dict)
    stored.write("x", component, {"text": "a", "number": 1.0, "list": [1, None]})
    return component


def test_rounding_of_another_processor_is_no_change(example: Component) -> None:
    assert stored.problem("x", example, {"text": "a", "number": 1.00005, "list": [1, None]}) is None


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("[-5.5, +1.3] of 13%", True),
        ("[-5.5, +1.4] of 13%", False),
        ("[-5.5, +1.25] of 13%", False),
        ("[-5.5, +1.2] of 14%", False),
        ("[+5.5, +1.2] of 13%", False),
    ],
)
def test_a_printed_number_may_be_rounded_to_its_neighbour(text: str, same: bool) -> None:
    assert (next(stored.differences("[-5.5, +1.2] of 13%", text), None) is None) == same


@pytest.mark.parametrize(
    "change", [{"text": "b"}, {"number": 1.001}, {"list": [1]}, {"list": [2, None]}, {"more": 1}]
)
def test_a_change_names_the_version_to_raise(example: Component, change: dict[str, object]) -> None:
    outputs = {"text": "a", "number": 1.0, "list": [1, None], **change}
    message = stored.problem("x", example, outputs)
    assert message is not None
    assert message.startswith("outputs changed (")
    assert message.endswith("raise X_VERSION and run `python -m scripts.golden`")
    assert next(iter(change)) in message or "more" in change


def test_a_raised_version_needs_new_outputs(example: Component) -> None:
    raised = replace(example, versions={"x": "2"})
    message = stored.problem("x", raised, json.loads(stored.path("x").read_text())["outputs"])
    assert (
        message == "the golden outputs of x are of other versions: run `python -m scripts.golden`"
    )
