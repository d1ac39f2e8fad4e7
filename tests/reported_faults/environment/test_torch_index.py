"""torch's CPU build is installed where there is no NVIDIA driver, and CUDA's libraries are not."""

import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from scripts import torch_index
from scripts.torch_index import CPU_BUILDS, has_nvidia_driver

ROOT = Path(__file__).parents[3]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


def wheel(index: Path, name: str, version: str, requires: str = "") -> None:
    folder, info = index / name, f"{name}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of two indexes: default/, whose torch needs a CUDA library, and cpu/."""
    wheel(tmp_path / "default", "torch", "2.13.0", "nvidia-cublas==13.1")
    wheel(tmp_path / "default", "nvidia_cublas", "13.1")
    (tmp_path / "default/nvidia_cublas").rename(tmp_path / "default/nvidia-cublas")
    wheel(tmp_path / "cpu", "torch", "2.13.0+cpu")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("platform", "driver", "answering", "chosen", "expected"),
    [
        ("linux", False, True, None, CPU_BUILDS),
        ("linux", False, False, None, ""),  # the fallback
        ("linux", True, True, None, ""),
        ("darwin", False, True, None, ""),  # PyPI has CPU builds there
        ("linux", False, True, "", ""),
        ("linux", True, True, "https://mirror.example/cpu", "https://mirror.example/cpu"),
        ("linux", False, False, "https://mirror.example/cpu", ""),
    ],
)
def test_the_index_of_cpu_builds_is_chosen_without_a_driver_if_it_answers(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    platform: str,
    driver: bool,
    answering: bool,
    chosen: str | None,
    expected: str,
) -> None:
    monkeypatch.setattr(torch_index.sys, "platform", platform)
    monkeypatch.setattr(torch_index, "has_nvidia_driver", lambda: driver)
    monkeypatch.setattr(torch_index, "answers", lambda index: answering)
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    if chosen is not None:
        monkeypatch.setenv("TORCH_INDEX", chosen)
    assert torch_index.torch_index() == expected
    assert ("does not answer" in capsys.readouterr().err) == (not answering)


def test_a_driver_is_seen_by_its_files_or_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    file = tmp_path / "version"
    assert not has_nvidia_driver((str(file),))
    file.touch()
    assert has_nvidia_driver((str(file),))
    program = tmp_path / "nvidia-smi"
    program.touch(mode=0o755)
    assert has_nvidia_driver(())


def test_an_index_answers_if_it_lists_torch(address: str) -> None:
    assert torch_index.answers(f"{address}/cpu")
    assert torch_index.answers(f"{address}/cpu/")
    for other in (f"{address}/none", "http://127.0.0.1:9", "no address"):
        assert not torch_index.answers(other)


@pytest.mark.parametrize("available", [True, False])
def test_make_installs_the_cpu_build_or_falls_back(
    address: str, tmp_path: Path, available: bool
) -> None:
    """The arguments are those of `make install`; pip only says what it would install."""
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"include {ROOT}/Makefile\nshow:\n\t@echo $(TORCH)\n")
    index = f"{address}/{'cpu' if available else 'none'}"
    arguments = subprocess.run(
        ["make", "--no-print-directory", "-f", str(makefile), "show", f"PYTHON={sys.executable}",
         f"TORCH_INDEX={index}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert arguments == [*(["--extra-index-url", index] if available else []), "torch==2.13.0"]
    environment = {name: value for name, value in os.environ.items() if "PIP_" not in name}
    result = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--isolated",
         "--index-url", f"{address}/default", *arguments],
        env={**environment, "PIP_CONFIG_FILE": os.devnull}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    would = result.stdout.replace("_", "-").partition("Would install ")[2].split()
    assert would == (["torch-2.13.0+cpu"] if available else ["nvidia-cublas-13.1", "torch-2.13.0"])


def test_uv_chooses_the_build_for_the_machine() -> None:
    """`mlflow run --env-manager uv` installs in a folder of links to the project's files."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert pyproject["tool"]["uv"]["pip"] == {"torch-backend": "auto"}
