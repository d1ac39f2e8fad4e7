"""The best adapter of a resumed training has the weights of the step that is named with it."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tiny_training import RECIPE, tiny_job

from isogloss.inference.predict import predict
from isogloss.models.language_model import LanguageModel
from isogloss.predictions.table import Prediction
from isogloss.training import loop as training
from isogloss.training.dev_predictions import DEV_PREDICTIONS
from isogloss.training.loop import train


class PowerCutError(Exception):
    """Represents a process that ends in the middle of a step."""


def test_a_step_that_is_not_the_best_again_leaves_no_weights_behind(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Right dev answers of four, at steps 0, 1, 2, 3 and after resuming from 2 at 3, 4, 5. On a GPU
    # the same steps are not the same to the bit.
    counts = iter([0, 1, 3, 4, 2, 1, 0])
    shown: list[int] = []

    def predict_with_count(*args: object) -> list[Prediction]:
        shown.append(next(counts))
        return [
            replace(prediction, correct=at < shown[-1], gold_logprob=-1.0)
            for at, prediction in enumerate(predict(*args))  # type: ignore[arg-type]
        ]

    def cut(step: int, metrics: dict[str, float]) -> None:
        if "train/loss" in metrics and step == 4 and len(shown) == 4:
            raise PowerCutError

    monkeypatch.setattr(training, "predict", predict_with_count)
    job = tiny_job(tmp_path, replace(RECIPE, steps=5, eval_every=1), checkpoint_every=2)
    with pytest.raises(PowerCutError):
        train(tiny, job, log=cut)
    result = train(tiny, job, log=cut)
    assert shown == [0, 1, 3, 4, 2, 1, 0]
    assert (result.best_step, result.best_dev.accuracy) == (2, 0.75)
    assert pd.read_parquet(result.best / DEV_PREDICTIONS)["correct"].sum() == 3
    assert [path.name for path in tmp_path.glob("best*")] == [result.best.name]
