"""torch's version and build, read without importing torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from isogloss.compat.torch_build import TorchBuild, torch_build

ROOT = Path(__file__).parents[2]
BUILD = TorchBuild(
    torch.__version__, torch.version.cuda is not None or torch.version.hip is not None
)
MOVED = "version.py is no longer beside torch's __init__.py, or says something else"


@pytest.mark.parametrize("public", ["0", "1"])
def test_the_build_is_what_torch_says(public: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_PUBLIC_INTERFACES", public)
    torch_build.cache_clear()
    assert torch_build() == BUILD, MOVED
    torch_build.cache_clear()


def test_torch_is_not_imported_for_it() -> None:
    code = (
        "import sys; from isogloss.compat.torch_build import torch_build; "
        "print(torch_build().version, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.stdout.split() == [torch.__version__, "False"], MOVED
