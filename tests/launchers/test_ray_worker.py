"""What a worker says of a cell that it has run, without a cluster."""

import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from isogloss.config import StudyConfig
from isogloss.launchers.ray_worker import CellWorker, Task
from isogloss.models import loading
from isogloss.stages.progress import study_report
from isogloss.stages.study_cells import study_cells

LOADING = 1.0  # seconds that loading takes longer here


def test_the_seconds_of_a_cell_are_those_of_its_work(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = loading.load

    def slow(*arguments: object) -> object:
        time.sleep(LOADING)
        return load(*arguments)

    monkeypatch.setattr("isogloss.models.loading.load", slow)
    config = StudyConfig.model_validate(
        {
            "study": "s", "model": str(model_folder("gemma3")), "dtype": "float32", "limit": 2,
            "languages": ["heb_Hebr", "eng_Latn"],
        }
    )  # fmt: skip
    worker = object.__new__(CellWorker)  # without the environment and the signals of a process
    worker._session = None
    with mlflow.start_run() as parent:
        pass
    began = time.monotonic()
    outcome = worker.run(Task(study_cells(config)[0], "base", parent.info.run_id))
    assert outcome.run, outcome.reason
    assert mlflow.get_run(outcome.run).info.status == "FINISHED"
    assert 0 < outcome.seconds < time.monotonic() - began - LOADING
    assert outcome.share == 0
    assert study_report.get() is None
