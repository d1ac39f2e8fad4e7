"""MLproject, conda.yaml and requirements agree with the configurations and pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from isogloss.config import ENTRY_POINTS, as_text

ROOT = Path(__file__).parents[2]
NAMES = ("main", "tune", "finetune", "evaluate", "compare", "register", "import", "plan")
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_mlproject_has_the_eight_entry_points() -> None:
    assert tuple(MLPROJECT["entry_points"]) == NAMES
    assert sorted(NAMES) == sorted(
        path.stem for path in (ROOT / "entrypoints").glob("*.py") if path.stem != "__init__"
    )


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_parameters_and_defaults_of_mlproject_are_those_of_the_command_line(name: str) -> None:
    entry = MLPROJECT["entry_points"][name]
    fields = ENTRY_POINTS[name].model_fields
    assert list(entry["parameters"]) == list(fields)
    for parameter, field in fields.items():
        expected = {"type": "string"}
        if not field.is_required():
            expected["default"] = as_text(parameter, field.default)
        assert entry["parameters"][parameter] == expected
    passed = " ".join(f"--{parameter} {{{parameter}}}" for parameter in fields)
    assert entry["command"] == f"python -m entrypoints.{name} {passed}"


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
