"""Training that is broken off and gone on with: the same weights, run and metrics."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import probe

from isogloss.errors import ConfigError, TrainingError
from isogloss.inference.predict import predict
from isogloss.models.adapters import WEIGHTS
from isogloss.models.language_model import LanguageModel
from isogloss.models.locate import file_sha256
from isogloss.predictions.table import Prediction
from isogloss.prompts.protocol import Protocol
from isogloss.training import loop as training
from isogloss.training.checkpoints import CHECKPOINT
from isogloss.training.loop import DEV, Recipe, Trained, train

RECIPE = Recipe(
    steps=7, batch_size=4, learning_rate=5e-3, rank=2, alpha=4, dropout=0.2, eval_every=3
)


class PowerCutError(Exception):
    """Stands for a process that ends in the midst of a step."""


def train_until(
    model: LanguageModel, folder: Path, recipe: Recipe = RECIPE, cut: int | None = None
) -> tuple[Trained, list[int]]:
    """Train with checkpoints every two steps; fail while step `cut` is logged."""
    seen: list[int] = []

    def log(step: int, metrics: dict[str, float]) -> None:
        if "train/loss" in metrics:
            if step == cut:
                raise PowerCutError
            seen.append(step)

    trained = train(
        model, probe("arb_Arab", "train", 16), probe("arb_Arab", "dev", 4), Protocol("cloze"),
        recipe, folder, task="probe", log=log, checkpoint_every=2,
    )  # fmt: skip
    return trained, seen


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 6, 7])
def test_training_cut_off_at_any_step_ends_with_the_same_weights(
    tiny: LanguageModel, tmp_path: Path, cut: int
) -> None:
    whole, _ = train_until(tiny, tmp_path / "whole")
    with pytest.raises(PowerCutError):
        train_until(tiny, tmp_path / "cut", cut=cut)
    torch.manual_seed(5)  # another process has another random state
    resumed, seen = train_until(tiny, tmp_path / "cut")
    assert seen == list(range((cut - 1) // 2 * 2 + 1, 8))
    assert file_sha256(resumed.last / WEIGHTS) == file_sha256(whole.last / WEIGHTS)
    assert file_sha256(resumed.best / WEIGHTS) == file_sha256(whole.best / WEIGHTS)
    assert (resumed.dev, resumed.best_step) == (whole.dev, whole.best_step)


def test_training_that_has_ended_is_not_done_again(tiny: LanguageModel, tmp_path: Path) -> None:
    first, _ = train_until(tiny, tmp_path / "work")
    before = file_sha256(first.last / WEIGHTS)
    again, seen = train_until(tiny, tmp_path / "work")
    assert seen == []
    assert again == first
    assert file_sha256(again.last / WEIGHTS) == before
    kept = sorted(path.name for path in (tmp_path / "work").iterdir())
    assert [name for name in kept if name != "best"] == [CHECKPOINT, "last"]


@pytest.mark.parametrize(
    ("right", "last", "best"),
    # Of four dev items, at steps 0, 1, 2, ...: the best is the first of equals; patience is two.
    [([0, 1, 3, 2, 3, 4, 4, 4], 4, 2), ([4, 0, 1, 2, 2, 2, 4, 4], 5, 3), ([0] * 7 + [4], 3, 1)],
)
def test_patience_ends_training_and_best_and_last_are_kept(
    tiny: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    right: list[int],
    last: int,
    best: int,
) -> None:
    measurements = iter(right)

    def predict_so_many(*given: object) -> list[Prediction]:
        count = next(measurements)
        return [
            replace(prediction, correct=at < count, gold_logprob=-1.0)
            for at, prediction in enumerate(predict(*given))
        ]

    monkeypatch.setattr(training, "predict", predict_so_many)
    recipe = replace(RECIPE, eval_every=1, patience=2)
    trained, _ = train_until(tiny, tmp_path / "work", recipe)
    assert (trained.last_step, trained.best_step) == (last, best)
    assert trained.best_dev.accuracy == right[best] / 4
    assert file_sha256(trained.last / WEIGHTS) != file_sha256(trained.best / WEIGHTS)
    assert pd.read_parquet(trained.best / DEV)["correct"].sum() == right[best]
    again, seen = train_until(tiny, tmp_path / "work", recipe)
    assert (again, seen) == (trained, [])


def test_a_loss_that_is_no_number_is_named_with_its_step_and_the_model_stays_whole(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in tiny.network.state_dict().items()}
    with pytest.raises(TrainingError, match=r"step \d+ is (nan|inf).*learning rate"):
        train_until(tiny, tmp_path / "work", replace(RECIPE, learning_rate=1e36, steps=30))
    after = tiny.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_memory_that_runs_out_is_named_with_its_step(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real message of the allocator, from asking for more than there is.
    def hungry(*_: object) -> float:
        return float(torch.empty(1 << 60).sum())

    monkeypatch.setattr(training, "_accumulate_gradients", hungry)
    with pytest.raises(TrainingError, match="out of memory in step 1, with batches of 4 items"):
        train_until(tiny, tmp_path / "work")


def test_modules_that_the_model_does_not_have_are_refused(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no_such_module"):
        train_until(tiny, tmp_path / "work", replace(RECIPE, target_modules="no_such_module"))
