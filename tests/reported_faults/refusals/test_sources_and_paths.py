"""Own data need a source language, and a path that is not found is given in full."""

import importlib
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from isogloss.config import EvaluateConfig, FinetuneConfig, StudyConfig, TuneConfig
from isogloss.config.study_files import read_study
from isogloss.errors import ConfigError, DataError
from isogloss.stages.task_data import evaluation_data
from isogloss.stages.training_inputs import source_data

ROWS = "question,option_1,option_2,answer,split\nWhat?,one,two,1,test\nWho?,one,two,1,train\n"


@pytest.fixture
def own_data(tmp_path: Path) -> str:
    """A folder with own data in Swahili and French."""
    folder = tmp_path / "exam"
    folder.mkdir()
    for code in ("swh_Latn", "fra_Latn"):
        (folder / f"{code}.csv").write_text(ROWS)
    return str(folder)


@pytest.mark.parametrize("config_class", [EvaluateConfig, FinetuneConfig, TuneConfig])
@pytest.mark.parametrize("source", [{}, {"source": "auto"}])
def test_own_data_are_not_taken_for_arabic(config_class: Any, source: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="a FLORES-200 code such as arb_Arab"):
        config_class(task="files", data_dir="exam", **source)
    config = config_class(task="files", data_dir="exam", source="swh_Latn")
    assert config.source == "swh_Latn"
    for task in ("probe", "belebele", "sib200"):
        assert config_class(task=task, **source).source == "arb_Arab"


def test_a_study_of_own_data_names_its_source_or_sources(own_data: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"study: x\ntask: files\ndata_dir: {own_data}\n")
    with pytest.raises(
        ConfigError, match="source should be the language fine-tuned on, a FLORES-200 code"
    ):
        read_study(path, {})
    assert read_study(path, {"source": "swh_Latn"}).source == "swh_Latn"
    assert read_study(path, {"sources": "swh_Latn,fra_Latn"}).sources is not None
    assert StudyConfig(study="x").source == "arb_Arab"


def test_training_on_a_language_that_the_data_do_not_have_is_refused(own_data: str) -> None:
    for config in (
        FinetuneConfig(task="files", data_dir=own_data, source="arb_Arab"),
        TuneConfig(task="files", data_dir=own_data, source="arb_Arab"),
    ):
        with pytest.raises((ConfigError, DataError), match="has no language 'arb_Arab'; it has"):
            source_data(config)
    config = EvaluateConfig(task="files", data_dir=own_data, source="swh_Latn")
    assert set(evaluation_data(config)[1]) == {"fra_Latn", "swh_Latn"}


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("evaluate", ["--task", "files", "--source", "fra_Latn", "--data_dir", "nowhere"]),
        ("evaluate", ["--task", "belebele", "--data_dir", "nowhere"]),
        ("evaluate", ["--model", "nowhere"]),
        ("evaluate", ["--model", "nowhere.gguf"]),
        ("evaluate", ["--adapter", "nowhere"]),
        ("register", ["--adapter", "nowhere"]),
        ("finetune", ["--recipe", "nowhere"]),
        ("main", ["--study", "nowhere"]),
        ("tune", ["--space", "nowhere"]),
        ("import", ["--path", "nowhere"]),
    ],
)
def test_a_relative_path_says_where_it_was_looked_for(
    command: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", mlflow.MlflowClient().create_run("0").info.run_id)
    result = CliRunner().invoke(importlib.import_module(f"entrypoints.{command}").main, options)
    assert result.exit_code == 2
    message = " ".join(result.output.split())
    assert f"; looked for at {tmp_path}/nowhere" in message
    assert "mlflow run starts in the project's folder: give an absolute path" in message
