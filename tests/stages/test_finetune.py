"""Which settings make a fine-tuning another one, and which leave a finished run reusable."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from isogloss.config import FinetuneConfig
from isogloss.registry.lookup import adapter_folder
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.stages.training_inputs import source_data
from isogloss.training.contamination import read_record


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


POOL = "arb_Arab+heb_Hebr"


def test_a_pooled_source_trains_on_the_same_number_of_items_of_each_language(
    model_folder: Callable[[str], Path],
) -> None:
    config = FinetuneConfig.model_validate(
        {"source": "heb_Hebr+arb_Arab", "limit": 6, "dev_limit": 4}
    )
    assert config.source == POOL
    data = source_data(config)
    assert Counter(item.language for item in data.train) == {"arb_Arab": 6, "heb_Hebr": 6}
    assert Counter(item.language for item in data.dev) == {"arb_Arab": 2, "heb_Hebr": 2}
    run = mlflow.get_run(run_id(model_folder("gemma3"), source=POOL))
    assert run.data.tags["isogloss.source"] == POOL
    with adapter_folder(run.info.run_id) as folder:
        record = read_record(folder)
    assert record is not None
    assert record.language == POOL
    assert set(record.passages) == {item.passage_id for item in data.train}


def test_the_order_of_pooled_languages_does_not_make_another_fine_tuning(
    model_folder: Callable[[str], Path],
) -> None:
    folder = model_folder("gemma3")
    assert run_id(folder, source=POOL) == run_id(folder, source="heb_Hebr+arb_Arab")
    assert run_id(folder, source=POOL) != run_id(folder, source="arb_Arab")
