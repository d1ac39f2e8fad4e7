"""Which settings make a fine-tuning another one, and which leave a finished run reusable."""

from collections.abc import Callable
from pathlib import Path

import pytest

from isogloss.config import FinetuneConfig
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session


def run_id(folder: Path, **changes: object) -> str:
    settings: dict[str, object] = {
        "model": str(folder), "dtype": "float32", "steps": 2, "batch_size": 2, "limit": 6,
        "dev_limit": 4, "rank": 2, "eval_every": 1, **changes,
    }  # fmt: skip
    config = FinetuneConfig.model_validate(settings)
    return str(finetune(config, Session(config.model, config.dtype)).info.run_id)


def test_dev_measurements_that_choose_nothing_do_not_make_another_fine_tuning(
    model_folder: Callable[[str], Path],
) -> None:
    folder = model_folder("gemma3")
    assert run_id(folder, keep="last") == run_id(folder, keep="last", eval_every=2)


@pytest.mark.parametrize("choosing", [{"keep": "best"}, {"keep": "last", "patience": 2}])
def test_dev_measurements_that_choose_the_adapter_make_another_fine_tuning(
    model_folder: Callable[[str], Path], choosing: dict[str, object]
) -> None:
    folder = model_folder("gemma3")
    assert run_id(folder, **choosing) != run_id(folder, **choosing, eval_every=2)
