"""A champion is not replaced for answers to other questions that have the same ids."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import probe

from isogloss.config import FinetuneConfig
from isogloss.prompts.render import shuffle_options
from isogloss.registry.lookup import adapter_folder
from isogloss.registry.promotion import compare_on_dev
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session
from isogloss.training.dev_predictions import DEV_PREDICTIONS, content_digest


@pytest.fixture
def dev_folder(model_folder: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Train on data whose ids are row numbers; return a folder with all dev answers as told."""

    def make(name: str, word: str, correct: bool, **changes: object) -> Path:
        data = tmp_path / name / "questions"  # the name of the task
        data.mkdir(parents=True)
        rows = [
            {"passage": f"The {word} of {number}", "question": "Who?",
             "options": [word, "nobody"], "answer": 1}
            for number in range(150)
        ]  # fmt: skip
        (data / "eng_Latn.jsonl").write_text("\n".join(map(json.dumps, rows)))
        config = FinetuneConfig.model_validate(
            {"model": str(model_folder("llama")), "dtype": "float32", "task": "files",
             "data_dir": str(data), "source": "eng_Latn", "steps": 1, "batch_size": 2, "rank": 2,
             "learning_rate": 0.01, **changes}
        )  # fmt: skip
        run = finetune(config, Session.of(config))
        with adapter_folder(run.info.run_id) as folder:
            table = pd.read_parquet(folder / DEV_PREDICTIONS)
        target = tmp_path / name / "dev"
        target.mkdir()
        table.assign(correct=correct).to_parquet(target / DEV_PREDICTIONS)
        return target

    return make


def test_items_with_one_id_and_other_texts_are_not_shared(dev_folder: Callable[..., Path]) -> None:
    champion = dev_folder("first", "king", False)
    promotion = compare_on_dev(champion, dev_folder("second", "queen", True))
    assert not promotion.promoted
    assert "no dev item in common" in promotion.reason
    shuffled = dev_folder("third", "king", True, shuffle_options=True, seed=1)
    assert compare_on_dev(champion, shuffled).promoted


def test_adapters_that_do_not_say_what_they_answered_are_not_compared(
    dev_folder: Callable[..., Path],
) -> None:
    champion = dev_folder("first", "king", False)
    path = champion / DEV_PREDICTIONS
    pd.read_parquet(path).drop(columns="content").to_parquet(path)
    promotion = compare_on_dev(champion, champion)
    assert (promotion.promoted, "which texts" in promotion.reason) == (False, True)


def test_the_order_of_options_is_no_other_item() -> None:
    items = probe("eng_Latn", "dev", 20)
    digests = [content_digest(item) for item in items]
    assert len(set(digests)) == 20
    assert [content_digest(shuffle_options(item, 3)) for item in items] == digests
