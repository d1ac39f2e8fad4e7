"""What a study is told is what it runs: no value is dropped for another one without a word."""

from collections.abc import Callable
from pathlib import Path

import pytest

from isogloss.config import EvaluateConfig, StudyConfig
from isogloss.config.study_files import read_study
from isogloss.errors import ConfigError
from isogloss.stages.session import Session
from isogloss.stages.study_cells import study_cells
from isogloss.tasks import open_task
from isogloss.types import Reasoning


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(f"study: s\n{text}\n")
    return path


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("models: [a, b]", {"model": "c"}, "model has no effect beside models; put 'c' into"),
        ("models: [a, b]", {"model": "embedded"}, "model has no effect beside models"),
        ("sources: [arb_Arab]", {"source": "heb_Hebr"}, "source has no effect beside sources"),
        ("sources: [arb_Arab]", {"control_source": "eng_Latn"}, "control_source has no effect"),
        ("models: [a, b]\nmodel: c", {}, "model has no effect beside models"),
        ("seeds: [0, 1]", {"seed": "7"}, "seed has no effect beside seeds; set seeds"),
        ("sources: [{source: arb_Arab, seeds: [3]}]", {"seed": "7"}, "seed has no effect beside seeds"),
        ("sources: [{source: arb_Arab, seeds: [3]}]", {"seeds": "0,1"},
         "seeds has no effect on source 'arb_Arab', which has its own"),
        # One adapter would count as two replicates, or as the control of itself.
        ("seeds: [0, 1, 0]", {}, "seeds must be distinct, but got 0 twice"),
        ("sources: [{source: arb_Arab, seeds: [3, 3]}]", {}, "seeds of arb_Arab must be distinct, but got 3 twice"),
        ("source: arb_Arab", {"control_source": "arb_Arab"},
         "source and control_source must be distinct, but got arb_Arab twice"),
    ],
)  # fmt: skip
def test_a_value_that_would_not_be_used_is_refused(
    text: str, overrides: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_study(write(tmp_path, text), overrides)


def test_a_recipe_that_a_model_would_not_get_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "models: [a, {model: b, recipe: {rank: 4}}]")
    with pytest.raises(ConfigError, match="recipe has no effect on model 'b', which has its own"):
        read_study(path, {}, {"rank": 8})
    assert read_study(path, {"models": "a,b"}, {"rank": 8}).finetune.rank == 8


def test_a_list_replaces_the_single_value_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "model: a\nsource: arb_Arab\ncontrol_source: eng_Latn\nseed: 3")
    study = read_study(path, {"models": "b,c", "sources": "heb_Hebr", "seeds": "1"})
    assert [
        (cell.config.model, cell.config.source, cell.config.seed)
        for cell in study_cells(study)
        if cell.label.endswith("seed 1") and "finetune" in cell.label
    ] == [("b", "heb_Hebr", 1), ("c", "heb_Hebr", 1)]
    assert read_study(path, {"models": "auto", "model": "d"}).model == "d"


def test_the_seed_of_the_order_of_options_stands_beside_those_of_adapters(tmp_path: Path) -> None:
    path = write(tmp_path, "seeds: [0, 1]\nshuffle_options: true")
    assert read_study(path, {"seed": "7"}).seed == 7


def test_the_token_budget_is_that_of_every_condition_that_generates() -> None:
    study = {"study": "s", "reasoning": "both", "max_new_tokens": 64}
    cells = study_cells(StudyConfig.model_validate(study))
    evaluated = [cell for cell in cells if "finetune" not in cell.label]
    assert {cell.config.max_new_tokens for cell in evaluated} == {64}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("answer_format", "reasoning", "budget"),
    [("generate", "direct", 64), ("generate", "cot", 64), ("letter", "cot", 64),
     ("letter", "direct", 16), ("cloze", "direct", 16)],
)  # fmt: skip
def test_the_token_budget_counts_where_text_is_generated_and_decides_nothing_elsewhere(
    answer_format: str, reasoning: str, budget: int, model_folder: Callable[[str], Path]
) -> None:
    config = EvaluateConfig.model_validate(
        {"model": str(model_folder("llama")), "format": answer_format, "max_new_tokens": 64}
    )
    task = open_task("probe", None)
    protocol = Session.of(config).protocol(config, task, Reasoning(reasoning), 64)
    assert protocol.max_new_tokens == budget
