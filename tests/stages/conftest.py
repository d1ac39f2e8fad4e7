"""A finished study, made once for all tests of stages."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import kept_store
from tiny_study import study_config

from isogloss.config import StudyConfig
from isogloss.stages.study import run_study


@pytest.fixture(scope="session")
def finished(
    model_folder: Callable[[str], Path], empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The store after one study."""
    folder = tmp_path_factory.mktemp("finished")
    with kept_store(empty_store, folder):
        run_study(study_config(model_folder("gemma3")))
    return folder / "mlflow.db"


@pytest.fixture
def study(
    finished: Path, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> StudyConfig:
    """The study of the store that `finished` made, in a copy of it."""
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
    shutil.copy(finished, "mlflow.db")
    return study_config(model_folder("gemma3"))
