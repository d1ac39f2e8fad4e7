"""Adapters of a tiny random model, trained for the tests of the registry."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities import Run

from isogloss.config import FinetuneConfig
from isogloss.stages.finetune import finetune
from isogloss.stages.session import Session

Train = Callable[..., Run]


@pytest.fixture
def train(model_folder: Callable[[str], Path]) -> Train:
    """Fine-tune the tiny model with changed parameters; return the finetune run."""

    def run(**changes: object) -> Run:
        parameters = {
            "model": str(model_folder("gemma3")), "dtype": "float32", "steps": 2, "batch_size": 2,
            "limit": 6, "dev_limit": 6, "rank": 2, "eval_every": 1,
        }  # fmt: skip
        config = FinetuneConfig.model_validate({**parameters, **changes})
        return finetune(config, Session(config.model, config.dtype))

    return run


@pytest.fixture
def finetuned(train: Train) -> Run:
    """The finetune run of one adapter."""
    return train()
