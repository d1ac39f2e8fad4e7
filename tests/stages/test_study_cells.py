"""The cells of a study: which fine-tunings and evaluations, in which order, with what parameters."""

import pytest

from isogloss.config import SharedConfig, StudyConfig
from isogloss.stages.study_cells import (
    EvaluateCell,
    FinetuneCell,
    sources_without_relatives,
    study_cells,
)
from isogloss.types import Condition, Split

WIDE = {
    "study": "wide", "source": "arb_Arab", "control_source": "eng_Latn", "seeds": "0,1",
    "reasoning": "both", "languages": "heb_Hebr,fra_Latn", "split": "dev", "max_new_tokens": 99,
    "limit": 50, "seed": 7, "shuffle_options": True, "format": "letter",
    "finetune": {"steps": 5, "rank": 2, "keep": "best"},
}  # fmt: skip


def config(**changes: object) -> StudyConfig:
    return StudyConfig.model_validate({"study": "small", **changes})


def test_the_smallest_study_is_base_one_finetuning_and_tuned() -> None:
    assert [cell.label for cell in study_cells(config())] == [
        "base",
        "finetune · Standard Arabic, seed 0",
        "tuned · Standard Arabic, seed 0",
    ]


def test_every_source_and_seed_is_trained_and_then_evaluated_in_every_condition() -> None:
    assert [cell.label for cell in study_cells(StudyConfig.model_validate(WIDE))] == [
        "base",
        "base+cot",
        "finetune · Standard Arabic, seed 0",
        "tuned · Standard Arabic, seed 0",
        "tuned+cot · Standard Arabic, seed 0",
        "finetune · Standard Arabic, seed 1",
        "tuned · Standard Arabic, seed 1",
        "tuned+cot · Standard Arabic, seed 1",
        "finetune · English, seed 0",
        "tuned · English, seed 0",
        "tuned+cot · English, seed 0",
        "finetune · English, seed 1",
        "tuned · English, seed 1",
        "tuned+cot · English, seed 1",
    ]


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 3),
        ({"reasoning": "cot"}, 3),
        ({"reasoning": "both"}, 5),
        ({"seeds": "0,1,2"}, 7),
        ({"control_source": "fra_Latn"}, 5),
        ({"control_source": "fra_Latn", "seeds": "0,1,2", "reasoning": "both"}, 20),
    ],
)
def test_the_number_of_cells_is_the_total_of_progress(
    changes: dict[str, object], count: int
) -> None:
    assert len(study_cells(config(**changes))) == count


def test_an_adapter_is_trained_before_it_is_evaluated_and_with_its_own_source() -> None:
    cells = study_cells(StudyConfig.model_validate(WIDE))
    for position, cell in enumerate(cells):
        if isinstance(cell, EvaluateCell) and cell.finetuned:
            assert cell.finetuned in cells[:position]
            assert cell.config.source == cell.finetuned.config.source
            assert cell.condition.tuned
        elif isinstance(cell, EvaluateCell):
            assert cell.condition in (Condition.BASE, Condition.BASE_COT)
            assert cell.config.source == "arb_Arab"


def test_cells_have_the_parameters_of_the_study() -> None:
    study = StudyConfig.model_validate(WIDE)
    for cell in study_cells(study):
        for name in set(SharedConfig.model_fields) - {"source", "seed", "limit"}:
            assert getattr(cell.config, name) == getattr(study, name), name
        assert cell.config.experiment is None  # that of the study's run
        if isinstance(cell, FinetuneCell):
            assert (cell.config.steps, cell.config.rank, cell.config.keep) == (5, 2, "best")
            assert cell.config.seed in (0, 1)
            assert cell.config.limit is None  # of training items; the study's is of test items
        else:
            assert cell.config.seed == 7  # one order of options for all adapters
            assert cell.config.limit == 50
            assert cell.config.languages == ("heb_Hebr", "fra_Latn")
            assert cell.config.split == Split.DEV
            assert cell.config.adapter is None
            assert cell.config.max_new_tokens == 99


def test_without_seeds_the_adapter_has_the_seed_of_the_study() -> None:
    _, finetuned, _ = study_cells(config(seed=3))
    assert finetuned.config.seed == 3


MANY = {
    "study": "s",
    "models": ["a", {"model": "b", "label": "B", "dtype": "nf4", "recipe": {"rank": 3}}],
    "sources": ["arb_Arab", {"source": "eng_Latn", "limit": 9, "seeds": "5,6"}],
    "seeds": "1",
    "finetune": {"steps": 5, "rank": 2},
}


def test_models_come_one_after_another_and_base_is_evaluated_once_per_model() -> None:
    cells = study_cells(StudyConfig.model_validate(MANY))
    assert [cell.label for cell in cells[: len(cells) // 2]] == [
        "a · base",
        "a · finetune · Standard Arabic, seed 1",
        "a · tuned · Standard Arabic, seed 1",
        "a · finetune · English, seed 5",
        "a · tuned · English, seed 5",
        "a · finetune · English, seed 6",
        "a · tuned · English, seed 6",
    ]
    second = cells[len(cells) // 2 :]
    assert [cell.config.model for cell in second] == ["b"] * 7
    assert {cell.label.split(" · ")[0] for cell in second} == {"B"}
    assert {cell.config.dtype for cell in second} == {"nf4"}
    trainings = [cell.config for cell in second if isinstance(cell, FinetuneCell)]
    assert [(own.rank, own.steps, own.limit) for own in trainings] == [
        (3, 5, None), (3, 5, 9), (3, 5, 9),
    ]  # fmt: skip


def test_every_source_of_a_crossed_study_is_evaluated_on_the_same_targets_beside_one_base() -> None:
    sources = ("arb_Arab", "tur_Latn", "hin_Deva", "swh_Latn")
    targets = ("arb_Arab", "heb_Hebr", "tur_Latn", "uzn_Latn", "hin_Deva", "ben_Beng")
    cells = study_cells(config(sources=",".join(sources), languages=",".join(targets)))
    evaluations = [cell for cell in cells if isinstance(cell, EvaluateCell)]
    assert [cell.finetuned and cell.finetuned.config.source for cell in evaluations] == [
        None,
        *sources,
    ]
    assert {cell.config.languages for cell in evaluations} == {targets}
    assert {cell.config.seed for cell in evaluations} == {0}


def test_sources_without_relatives_among_the_targets_of_a_crossed_study_are_named() -> None:
    targets = ("arb_Arab", "heb_Hebr", "tur_Latn", "uzn_Latn", "hin_Deva")
    crossed = config(sources="arb_Arab,tur_Latn,hin_Deva,swh_Latn")
    assert sources_without_relatives(crossed, targets) == ["hin_Deva", "swh_Latn"]
    assert sources_without_relatives(config(sources="arb_Arab,eng_Latn"), targets) == []
