"""The first line of a command, which comes before slow libraries are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from isogloss.config import (
    CellConfig,
    CellsConfig,
    CompareConfig,
    EvaluateConfig,
    FinetuneConfig,
    MainConfig,
    PlanConfig,
    RegisterConfig,
    TuneConfig,
)
from isogloss.errors import ConfigError, DataError, ModelError
from isogloss.models.locate import locate
from isogloss.stages.opening import opening, require_models

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path: Path) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(
        "study: s\nmodels: [org/A-1B, org/B-2B]\nsource: heb_Hebr\ncontrol_source: eng_Latn\n",
        "utf-8",
    )
    return str(path)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (EvaluateConfig(), "evaluate · embedded · probe"),
        (
            EvaluateConfig(model="org/A-1B@abc", adapter=("mine/adapter",)),
            "evaluate · A-1B@abc · probe · mine/adapter",
        ),
        (FinetuneConfig(seed=3), "finetune · embedded on Standard Arabic, seed 3 · probe"),
        (TuneConfig(), "tune · embedded on Standard Arabic, seed 0 · probe"),
        (RegisterConfig(adapter="models:/m-1"), "register models:/m-1"),
        (PlanConfig(), None),
        (CompareConfig(), None),
    ],
)
def test_a_command_says_what_it_does(config: BaseModel, line: str | None) -> None:
    assert opening(config) == line


def test_a_study_is_named_with_its_models_and_sources(study: str) -> None:
    line = "study s · A-1B and B-2B on Hebrew and English · probe"
    assert opening(MainConfig(study=study)) == line
    assert opening(MainConfig(study=study, dry_run=True)) == f"dry run of {line}"
    assert opening(CellConfig(study=study, cell="A-1B.base")) == f"cell A-1B.base of {line}"
    assert opening(CellsConfig(study=study)) is None


def test_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *_, **__: asked.append(1))
    assert opening(EvaluateConfig(task="belebele", languages=("heb_Hebr",)))
    assert not asked
    with pytest.raises(ConfigError, match="unknown language 'heb_Hebrr'"):
        opening(EvaluateConfig(task="belebele", languages=("heb_Hebrr",)))


def test_a_folder_that_is_missing_stops_a_study_but_no_dry_run(study: str) -> None:
    config = MainConfig(study=study, task="sib200", data_dir="/no/such")
    with pytest.raises(DataError, match="data_dir '/no/such' is not a folder"):
        opening(config)
    assert opening(config.model_copy(update={"dry_run": True}))


@pytest.mark.parametrize("kind", [EvaluateConfig, FinetuneConfig, TuneConfig])
def test_a_model_that_does_not_exist_is_refused_as_when_it_is_located(
    kind: type[EvaluateConfig | FinetuneConfig | TuneConfig],
) -> None:
    with pytest.raises(ModelError) as located:
        locate("qwen/typo")
    with pytest.raises(ModelError) as refused:
        require_models(kind(model="qwen/typo"))
    assert str(refused.value) == str(located.value)
    require_models(kind())


def test_all_models_of_a_study_that_do_not_exist_are_named(study: str) -> None:
    with pytest.raises(ConfigError) as refused:
        require_models(MainConfig(study=study))
    first, second = str(refused.value).splitlines()
    assert "'org/A-1B' is neither" in first
    assert "'org/B-2B' is neither" in second
    with pytest.raises(ConfigError) as quick:
        require_models(MainConfig(study=study, quick="true"))
    assert str(quick.value) == first
    require_models(MainConfig(study=study, models="embedded"))


def test_a_dry_run_and_a_list_of_cells_need_no_model(study: str) -> None:
    require_models(MainConfig(study=study, dry_run=True))
    require_models(CellsConfig(study=study))
    require_models(PlanConfig())


def test_a_model_of_a_server_is_not_looked_for_here() -> None:
    server = {"kind": "vllm", "base_url": "http://127.0.0.1:9/v1"}
    require_models(EvaluateConfig.model_validate({"model": "their/name", "engine": server}))
    require_models(EvaluateConfig(model="http://127.0.0.1:9/v1#their/name"))
    trainer = {"kind": "command", "train": "train {train} {recipe} {output} {model}"}
    with pytest.raises(ModelError):
        require_models(FinetuneConfig.model_validate({"model": "a/typo", "engine": trainer}))


def test_the_line_comes_before_mlflow_and_torch() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('mlflow', 'torch', 'transformers', 'pandas')))\n"
        "sys.argv = ['isogloss', 'finetune']\n"
        "from isogloss.cli.main import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    first, *_, last = done.stderr.splitlines()
    assert first.endswith("INFO finetune · embedded on Standard Arabic, seed 0 · probe")
    assert last == "ModuleNotFoundError: import of mlflow halted; None in sys.modules"
