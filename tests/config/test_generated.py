"""MLproject, conda.yaml and requirements agree with the configurations and pyproject.toml."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from isogloss.config import ENTRY_POINTS, StudyConfig, as_text
from scripts import generate

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


def test_conda_yaml_holds_the_exact_versions_of_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip"]
    lock = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    assert pip == {"pip": lock}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", entry) for entry in lock)


def test_requirements_pin_every_dependency_exactly() -> None:
    pinned = {}
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                package, version = line.split("==")
                pinned[normal(package)] = version
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert {"isogloss[qlora]", "isogloss[server]"} <= set(extras["dev"])
    of_dev = [entry for entry in extras["dev"] if not entry.startswith("isogloss[")]
    optional = of_dev + extras["server"] + extras["qlora"]
    for entry in PYPROJECT["project"]["dependencies"] + optional:
        requirement = Requirement(entry)
        assert requirement.specifier.contains(pinned[normal(requirement.name)]), entry
    assert "torch==2.13.0" in (ROOT / "requirements.txt").read_text().splitlines()


def test_generated_files_are_up_to_date() -> None:
    assert generate.stale() == []


def test_a_stale_or_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in generate.GENERATED.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text(), "utf-8")
    assert generate.stale(tmp_path) == []
    (tmp_path / "conda.yaml").unlink()
    (tmp_path / "MLproject").write_text("name: other\n")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "conda_yaml", lambda: "")
    assert generate.stale(tmp_path) == ["MLproject", "conda.yaml"]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_page_of_parameters_has_a_table_per_entry_point(name: str) -> None:
    page = (ROOT / "docs/reference/parameters.md").read_text("utf-8")
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+) \|$", section[1], re.MULTILINE)
    assert [
        (parameter, "required" if field.is_required() else f"`{as_text(parameter, field.default)}`")
        for parameter, field in ENTRY_POINTS[name].model_fields.items()
    ] == [row[:2] for row in rows]


def test_the_page_of_parameters_has_the_sections_of_study_files() -> None:
    section = (ROOT / "docs/reference/parameters.md").read_text("utf-8").partition("## Study files")
    parameters = re.findall(r"^\| `([\w.]+)` \|", section[2], re.MULTILINE)
    assert {"finetune.steps", "finetune.keep", "compare.margin"} <= set(parameters)
    assert set(StudyConfig.model_fields) - {"finetune", "compare", "resources"} <= set(parameters)


def test_every_module_imported_by_the_package_is_a_declared_dependency() -> None:
    distributions = packages_distributions()
    declared = {
        normal(re.split(r"[<>=]", requirement)[0])
        for requirement in [
            *PYPROJECT["project"]["dependencies"],
            *PYPROJECT["project"]["optional-dependencies"]["qlora"],
            *PYPROJECT["project"]["optional-dependencies"]["deepspeed"],
            *PYPROJECT["project"]["optional-dependencies"]["ray"],
            *PYPROJECT["project"]["optional-dependencies"]["tinker"],
        ]
    }
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "entrypoints").glob("*.py")]:
        for module in imported(path) - sys.stdlib_module_names - {"isogloss"}:
            names = {normal(name) for name in distributions.get(module, [module])}
            assert names & declared, (
                f"{path.name} imports {module}, which pyproject does not declare"
            )


def imported(path: Path) -> set[str]:
    """The top-level modules that a file imports, wherever in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.partition(".")[0])
    return modules


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
