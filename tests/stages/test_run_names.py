"""Names of runs."""

import pytest

from isogloss.stages.run_names import run_name, short_model

RUN_ID = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((["embedded"], [], "probe"), "base · embedded · probe"),
        ((["embedded"], ["arb_Arab"], "probe", 0),
         "base · embedded on Standard Arabic, seed 0 · probe"),
        ((["a/x", "a/y"], ["arb_Arab", "heb_Hebr"], "sib200"),
         "base · x and y on Standard Arabic and Hebrew · sib200"),
        ((["a", "b", "c"], ["arb_Arab"], None), "base · 3 models on Standard Arabic"),
        ((["m"], ["arb_Arab"], "probe", 1, "models:/reader@champion"),
         "base · m on Standard Arabic, seed 1 · probe · models:/reader@champion"),
        ((["m"], ["arb_Arab"], "probe", 1, RUN_ID),
         "base · m on Standard Arabic, seed 1 · probe"),
        ((["m"], ["arb_Arab"], "probe", 1, f"models:/m-{RUN_ID}"),
         "base · m on Standard Arabic, seed 1 · probe"),
    ],
)  # fmt: skip
def test_a_name_has_model_source_and_task_and_no_id(
    arguments: tuple[object, ...], name: str
) -> None:
    assert run_name("base", *arguments) == name


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ("embedded", "embedded"),
        ("Qwen/Qwen3-0.6B@main", "Qwen3-0.6B@main"),
        ("/models/gemma/", "gemma"),
        ("http://host:8000/v1#served/name", "name"),
        ("http://host:8000/v1", "host:8000"),
    ],
)
def test_a_model_is_its_last_part(model: str, short: str) -> None:
    assert short_model(model) == short


def test_a_name_is_no_longer_than_mlflow_accepts() -> None:
    assert len(run_name("base", ["m" * 500], [], "probe")) == 200
