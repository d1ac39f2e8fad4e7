"""A training that is resumed with other dev measurements begins again, instead of failing."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from isogloss.config import FinetuneConfig
from isogloss.stages.finetune import run_finetune
from isogloss.training import loop


class Killed(BaseException):
    """Ends a process in the middle of a training."""


def test_the_run_has_the_measurements_that_it_says(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {
        "model": str(model_folder("llama")), "dtype": "float32", "steps": 6, "batch_size": 2,
        "rank": 2, "limit": 6, "dev_limit": 4, "learning_rate": 0.01, "checkpoint_every": 2,
    }  # fmt: skip
    accumulate = loop._accumulate_gradients
    done: list[None] = []

    def killed_at_the_fourth(*arguments: object) -> float:
        done.append(None)
        if len(done) == 4:
            raise Killed
        return accumulate(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_accumulate_gradients", killed_at_the_fourth)
    with pytest.raises(Killed):
        run_finetune(FinetuneConfig.model_validate({**parameters, "eval_every": 1}))
    run = run_finetune(FinetuneConfig.model_validate({**parameters, "eval_every": 3}))
    assert len(done) == 4 + 6
    assert mlflow.get_run(run).data.params["recipe.eval_every"] == "3"
    history = mlflow.MlflowClient().get_metric_history(run, "dev/accuracy")
    assert sorted({metric.step for metric in history}) == [0, 3, 6]
