"""The provider of the experiment of `mlflow run`."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking.default_experiment import registry

from isogloss.launchers.default_experiment import IsoglossExperiment, is_project

ROOT = Path(__file__).parents[2]


def test_the_package_declares_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = project["entry-points"]["mlflow.default_experiment_provider"]["isogloss"]
    module, _, name = declared.partition(":")
    assert getattr(import_module(module), name) is IsoglossExperiment


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["/env/bin/mlflow", "run", str(ROOT), "-e", "plan"], True),
        (["/lib/mlflow/__main__.py", "run", "-P", "limit=2", str(ROOT)], True),
        (["mlflow", "run", "https://github.com/someone/isogloss.git#sub", "-v", "main"], True),
        (["mlflow", "run", "git@github.com:someone/isogloss"], True),
        (["mlflow", "run", "https://github.com/someone/another"], False),
        (["mlflow", "run", str(ROOT / "docs")], False),
        (["mlflow", "ui", str(ROOT)], False),
        (["/env/bin/python", "run", str(ROOT)], False),
    ],
)
def test_it_is_asked_for_this_project_alone(
    arguments: list[str], asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert IsoglossExperiment().in_context() is asked


def test_another_project_is_none(tmp_path: Path) -> None:
    (tmp_path / "MLproject").write_text("name: another\n", "utf-8")
    assert not is_project(str(tmp_path))
    (tmp_path / "MLproject").write_text('name: "isogloss"\n', "utf-8")
    assert is_project(str(tmp_path))


def test_mlflow_takes_its_experiment_and_any_named_one_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["mlflow", "run", str(ROOT)])
    monkeypatch.setattr("atexit.register", lambda *_: None)
    providers = registry._default_experiment_provider_registry
    monkeypatch.setattr(providers, "_registry", [IsoglossExperiment()])
    with mlflow.start_run() as run:
        assert mlflow.get_experiment(run.info.experiment_id).name == "isogloss"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "named")
    with mlflow.start_run() as run:
        assert mlflow.get_experiment(run.info.experiment_id).name == "named"


def test_it_imports_nothing_before_it_is_asked() -> None:
    code = (
        "import sys; import isogloss.launchers.default_experiment; "
        "print({'mlflow', 'torch', 'pydantic', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.stdout.strip() == "set()"
