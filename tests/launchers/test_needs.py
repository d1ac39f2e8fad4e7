"""What cells need: GPUs, main memory and hours, beside plain arithmetic."""

import math

import pytest

from isogloss.config import StudyConfig
from isogloss.launchers.needs import cell_needs


def study(**values: object) -> StudyConfig:
    return StudyConfig.model_validate(
        {"study": "needs", "task": "probe", "languages": "heb_Hebr,eng_Latn", "limit": 4, **values}
    )


@pytest.mark.parametrize(("card", "gigabytes"), [("H100", 80), ("H200", 141)])
def test_a_large_model_gets_as_many_gpus_as_hold_it(card: str, gigabytes: int) -> None:
    config = study(models=[{"model": "some/model", "parameters": 1.0e11}], dtype="bfloat16")
    needs = list(cell_needs(config, card).values())
    assert len(needs) == 3
    for own in needs:
        assert own.memory == pytest.approx(2 * 1.0e11 + 8e9, rel=0.05)
        assert own.gpus is not None
        # The weights alone need that many, and activations no more than a third on top.
        assert math.ceil(200 / gigabytes) <= own.gpus <= math.ceil(1.34 * 200 / (0.92 * gigabytes))


def test_training_takes_longer_than_the_operations_of_its_items_need() -> None:
    config = study(
        models=[{"model": "some/model", "parameters": 4.0e9}],
        dtype="bfloat16",
        finetune={"steps": 100, "batch_size": 16},
    )
    trained = next(own for cell, own in cell_needs(config).items() if "finetune" in cell.label)
    # Forward and backward through frozen weights: four operations per weight and token. A probe
    # item has 50 tokens at least.
    least = 4 * 4.0e9 * 100 * 16 * 50 / 790e12 / 3600
    assert trained.hours is not None
    assert least < trained.hours < 100 * least


def test_nothing_is_known_of_a_model_of_unknown_shape() -> None:
    (first, *_) = cell_needs(study(model="some/model")).values()
    assert (first.gpus, first.memory, first.hours) == (None, None, None)
