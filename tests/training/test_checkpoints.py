"""Interrupted trainings resume: the same weights, dev scores and metrics as without a break."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from damage import DAMAGES
from tiny_training import tiny_job

from isogloss.errors import ConfigError, TrainingError
from isogloss.files import file_sha256
from isogloss.inference.predict import predict
from isogloss.models.adapter_files import CONFIG, WEIGHTS
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.table import Prediction
from isogloss.training import loop as training
from isogloss.training.checkpoints import CHECKPOINT
from isogloss.training.contamination import RECORD
from isogloss.training.dev_predictions import DEV_PREDICTIONS
from isogloss.training.loop import TrainingResult, train
from isogloss.training.recipe import Recipe

RECIPE = Recipe(
    steps=7, batch_size=4, learning_rate=5e-3, rank=2, alpha=4, dropout=0.2, eval_every=3
)


class PowerCutError(Exception):
    """Represents a process that ends in the middle of a step."""


def train_until(
    model: LanguageModel, folder: Path, recipe: Recipe = RECIPE, cut: int | None = None
) -> tuple[TrainingResult, list[int]]:
    """Train with checkpoints every two steps; fail while step `cut` is logged."""
    steps: list[int] = []

    def log(step: int, metrics: dict[str, float]) -> None:
        if "train/loss" in metrics:
            if step == cut:
                raise PowerCutError
            steps.append(step)

    result = train(model, tiny_job(folder, recipe, checkpoint_every=2), log=log)
    return result, steps


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 6, 7])
def test_training_interrupted_at_any_step_ends_with_the_same_weights(
    tiny: LanguageModel, tmp_path: Path, cut: int
) -> None:
    whole, _ = train_until(tiny, tmp_path / "whole")
    with pytest.raises(PowerCutError):
        train_until(tiny, tmp_path / "cut", cut=cut)
    torch.manual_seed(5)  # another process has another random state
    resumed, steps = train_until(tiny, tmp_path / "cut")
    assert steps == list(range((cut - 1) // 2 * 2 + 1, 8))
    assert file_sha256(resumed.last / WEIGHTS) == file_sha256(whole.last / WEIGHTS)
    assert file_sha256(resumed.best / WEIGHTS) == file_sha256(whole.best / WEIGHTS)
    assert (resumed.dev, resumed.best_step) == (whole.dev, whole.best_step)


@pytest.mark.parametrize("damage", [*DAMAGES, "of another training"])
def test_a_damaged_checkpoint_is_deleted_and_the_training_begins_anew(
    damage: str, tiny: LanguageModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = replace(RECIPE, steps=4)
    whole, _ = train_until(tiny, tmp_path / "whole", recipe)
    with pytest.raises(PowerCutError):
        train_until(tiny, tmp_path / "cut", recipe, cut=4)
    path = tmp_path / "cut" / CHECKPOINT
    if damage == "of another training":
        train_until(tiny, tmp_path / "other", replace(recipe, rank=4))
        path.write_bytes((tmp_path / "other" / CHECKPOINT).read_bytes())
    else:
        DAMAGES[damage](path)
    caplog.clear()
    resumed, steps = train_until(tiny, tmp_path / "cut", recipe)
    assert steps == [1, 2, 3, 4]
    assert file_sha256(resumed.last / WEIGHTS) == file_sha256(whole.last / WEIGHTS)
    (message,) = [each for each in caplog.messages if "damaged" in each]
    assert message.startswith(f"{path} is damaged and deleted, and the training begins anew")


@pytest.mark.parametrize("name", [WEIGHTS, DEV_PREDICTIONS, RECORD, CONFIG])
@pytest.mark.parametrize("damage", ["empty", "cut in the middle"])
def test_the_last_adapter_of_a_finished_training_is_saved_again_if_it_is_damaged(
    damage: str, name: str, tiny: LanguageModel, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=3)
    whole, _ = train_until(tiny, tmp_path / "a", recipe)
    digests = {path.name: file_sha256(path) for path in whole.last.iterdir()}
    DAMAGES[damage](whole.last / name)
    again, steps = train_until(tiny, tmp_path / "a", recipe)
    assert steps == []
    assert {path.name: file_sha256(path) for path in again.last.iterdir()} == digests


def test_a_training_whose_best_adapter_is_lost_begins_anew(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=7, eval_every=1, learning_rate=0.5)
    whole, _ = train_until(tiny, tmp_path / "a", recipe)
    assert whole.best_step < 7, "the test needs an earlier adapter that is better"
    digest = file_sha256(whole.best / WEIGHTS)
    (whole.best / WEIGHTS).unlink()
    again, steps = train_until(tiny, tmp_path / "a", recipe)
    assert steps == list(range(1, 8))
    assert (again.best_step, file_sha256(again.best / WEIGHTS)) == (whole.best_step, digest)


def test_a_finished_training_does_no_further_steps(tiny: LanguageModel, tmp_path: Path) -> None:
    first, _ = train_until(tiny, tmp_path / "work")
    before = file_sha256(first.last / WEIGHTS)
    again, steps = train_until(tiny, tmp_path / "work")
    assert steps == []
    assert again == first
    assert file_sha256(again.last / WEIGHTS) == before
    names = sorted(path.name for path in (tmp_path / "work").iterdir())
    others = [] if first.best == first.last else [first.best.name]
    assert names == [*others, CHECKPOINT, "last"]


@pytest.mark.parametrize(
    ("correct", "last", "best"),
    # Of four dev items, at steps 0, 1, 2, ...: the best is the first of equals; patience is two.
    [([0, 1, 3, 2, 3, 4, 4, 4], 4, 2), ([4, 0, 1, 2, 2, 2, 4, 4], 5, 3), ([0] * 7 + [4], 3, 1)],
)
def test_patience_ends_training_and_keeps_the_best_and_the_last_adapter(
    tiny: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    correct: list[int],
    last: int,
    best: int,
) -> None:
    counts = iter(correct)

    def predict_with_count(*args: object) -> list[Prediction]:
        count = next(counts)
        return [
            replace(prediction, correct=at < count, gold_logprob=-1.0)
            for at, prediction in enumerate(predict(*args))
        ]

    monkeypatch.setattr(training, "predict", predict_with_count)
    recipe = replace(RECIPE, eval_every=1, patience=2)
    result, _ = train_until(tiny, tmp_path / "work", recipe)
    assert (result.last_step, result.best_step) == (last, best)
    assert result.best_dev.accuracy == correct[best] / 4
    assert file_sha256(result.last / WEIGHTS) != file_sha256(result.best / WEIGHTS)
    assert pd.read_parquet(result.best / DEV_PREDICTIONS)["correct"].sum() == correct[best]
    again, steps = train_until(tiny, tmp_path / "work", recipe)
    assert (again, steps) == (result, [])


def test_a_loss_that_is_not_finite_is_an_error_with_its_step_and_leaves_the_model_as_it_was(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in tiny.network.state_dict().items()}
    with pytest.raises(TrainingError, match=r"step \d+ is (nan|inf).*learning rate"):
        train_until(tiny, tmp_path / "work", replace(RECIPE, learning_rate=1e36, steps=30))
    after = tiny.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_dev_log_probabilities_that_are_nan_are_an_error_with_their_step(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        training,
        "predict",
        lambda *args: [replace(answer, gold_logprob=float("nan")) for answer in predict(*args)],
    )
    with pytest.raises(TrainingError, match="log-probability is nan after step 0"):
        train_until(tiny, tmp_path / "work")


def test_running_out_of_memory_is_an_error_with_its_step(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The allocator's own message, from a request for more than there is.
    def allocate_too_much(*_: object) -> float:
        return float(torch.empty(1 << 60).sum())

    monkeypatch.setattr(training, "_accumulate_gradients", allocate_too_much)
    with pytest.raises(TrainingError, match="out of memory in step 1, with batches of 4 items"):
        train_until(tiny, tmp_path / "work")


def test_modules_that_the_model_lacks_are_rejected(tiny: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no_such_module"):
        train_until(tiny, tmp_path / "work", replace(RECIPE, target_modules="no_such_module"))
