"""MLproject, conda.yaml, requirements, command lines and README agree with one another."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from isogloss import config
from isogloss.config import study_files

ROOT = Path(__file__).parents[2]
NAMES = ("main", "tune", "finetune", "evaluate", "compare", "register", "import", "plan")
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def config_class(name: str) -> type:
    return getattr(config, f"{name.capitalize()}Config")


def test_mlproject_has_the_eight_entry_points() -> None:
    assert tuple(MLPROJECT["entry_points"]) == NAMES
    assert sorted(NAMES) == sorted(
        path.stem for path in (ROOT / "entrypoints").glob("*.py") if path.stem != "__init__"
    )


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_defaults_of_mlproject_are_those_of_the_command_line(name: str) -> None:
    entry = MLPROJECT["entry_points"][name]
    fields = config_class(name).model_fields
    assert list(entry["parameters"]) == list(fields)
    for parameter, field in fields.items():
        expected = {"type": "string"}
        if not field.is_required():
            expected["default"] = config.as_text(parameter, field.default)
        assert entry["parameters"][parameter] == expected
    passed = " ".join(f"--{parameter} {{{parameter}}}" for parameter in fields)
    assert entry["command"] == f"python -m entrypoints.{name} {passed}"


@pytest.mark.parametrize("name", NAMES)
def test_defaults_as_text_mean_the_defaults(name: str) -> None:
    fields = config_class(name).model_fields
    required = {key: "x" for key, field in fields.items() if field.is_required()}
    texts = {
        key: config.as_text(key, field.default)
        for key, field in fields.items()
        if not field.is_required()
    }
    assert config_class(name)(**required, **texts) == config_class(name)(**required)


@pytest.mark.parametrize("name", NAMES)
def test_help_names_every_parameter_without_loading_what_is_heavy(name: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"entrypoints.{name}", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for parameter in config_class(name).model_fields:
        assert f"--{parameter} " in shown.stdout
    assert not re.search(r"\| +(torch|mlflow|transformers)$", shown.stderr, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_parameter_is_refused_by_name(name: str) -> None:
    command = importlib.import_module(f"entrypoints.{name}").main
    result = CliRunner().invoke(command, ["--no_such_thing", "1"])
    assert result.exit_code == 2
    assert "--no_such_thing" in result.output


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("evaluate", ["--task", "chess"], "'belebele' or 'files', but got 'chess'"),
        ("evaluate", ["--limit", "0"], "limit: input should be greater than 0, but got '0'"),
        ("evaluate", ["--reasoning", "deep"], "reasoning: input should be 'direct' or 'cot'"),
        ("evaluate", ["--task", "belebele", "--data_dir", "."], "belebele finds no language"),
        ("evaluate", ["--task", "files"], "data_dir"),
        ("evaluate", ["--format", "essay"], "format: input should be"),
        ("evaluate", ["--max_length", "0"], "max_length: input should be greater than 0"),
        ("main", ["--study", f"{ROOT}/configs/demo.yaml", "--reasoning", "deep"],
         "reasoning: input should be 'direct', 'cot' or 'both'"),
        ("evaluate", ["--languages", "heb_Hebr,xxx_Latn"], "'xxx_Latn' is not known"),
        ("evaluate", ["--languages", "kor_Hang"], "has no language 'kor_Hang'; it has amh_Ethi"),
        ("evaluate", ["--source", "klingon"], "'klingon' is not known"),
        ("evaluate", ["--task", "sib200", "--data_dir", "nowhere"], "'nowhere' is not a folder"),
        ("evaluate", ["--model", "nowhere/at-all"], "model 'nowhere/at-all' is neither"),
        ("evaluate", ["--adapter", "nowhere"], "adapter 'nowhere' is neither a folder"),
        ("finetune", ["--learning_rate", "-1"], "learning_rate: input should be greater than 0"),
        ("finetune", ["--source", "kor_Hang"], "has no language 'kor_Hang'"),
        ("tune", ["--space", "nowhere.yaml"], "space 'nowhere.yaml' cannot be read"),
        ("finetune", ["--recipe", "nowhere.yaml"], "recipe 'nowhere.yaml' cannot be read"),
        ("compare", ["--study", "nothing"], "study 'nothing' has no finished evaluate run"),
        ("compare", ["--experiment", "nothing"], "there is no experiment 'nothing'"),
        ("register", ["--adapter", "nowhere"], "adapter 'nowhere' is neither a folder"),
        ("import", ["--path", "nowhere"], "path 'nowhere' is no file"),
        ("main", ["--study", "nowhere.yaml"], "'nowhere.yaml' cannot be read"),
    ],
)  # fmt: skip
def test_a_mistake_exits_2_in_one_sentence_before_a_run_is_opened(
    name: str, arguments: list[str], message: str
) -> None:
    import mlflow

    result = CliRunner().invoke(importlib.import_module(f"entrypoints.{name}").main, arguments)
    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert "Traceback" not in result.output
    assert mlflow.search_runs(search_all_experiments=True).empty


def test_a_study_file_is_checked_and_overridden_by_name(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: s\nlimit: 5\nlanguages: heb_Hebr,amh_Ethi\n")
    study = study_files.read_study(path, {"limit": "7", "seed": "3"})
    assert (study.limit, study.seed, study.languages) == (7, 3, ("heb_Hebr", "amh_Ethi"))
    for content, message in [
        ("study: s\nlanguage: all\n", "language: there is nothing of that name"),
        ("limit: 5\n", "study: field required"),
        ("- 1\n", "not a mapping"),
        ("a: [\n", "not YAML"),
        ("study: s\nfinetune: {step: 4}\n", r"finetune\.step: there is nothing of that name"),
    ]:
        path.write_text(content)
        with pytest.raises(study_files.ConfigError, match=message):
            study_files.read_study(path, {})


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_file_of_the_repository_is_sound(path: Path) -> None:
    assert study_files.read_study(path, {}).study == path.stem


def test_conda_yaml_holds_what_pyproject_holds() -> None:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip"]
    assert pip == {"pip": PYPROJECT["project"]["dependencies"]}


def test_requirements_pin_every_dependency_exactly() -> None:
    pinned = {}
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                package, version = line.split("==")
                pinned[re.sub(r"[-_.]+", "-", package).lower()] = version
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert {"isogloss[qlora]", "isogloss[server]"} <= set(extras["dev"])
    of_dev = [one for one in extras["dev"] if not one.startswith("isogloss[")]
    wanted = of_dev + extras["server"] + extras["qlora"]
    for requirement in PYPROJECT["project"]["dependencies"] + wanted:
        name = re.split(r"[<>=]", requirement)[0]
        assert name.lower() in pinned
    assert "torch==2.13.0" in (ROOT / "requirements.txt").read_text().splitlines()
