"""Print the package index of torch's CPU builds, if this machine should install from it.

It should if it is a Linux machine without an NVIDIA driver: there PyPI's torch brings 3 GB of CUDA
libraries. Prints nothing if the index does not answer, so that the default index is used.
TORCH_INDEX names another index, or none if it is empty. Standard library only: it runs before
anything is installed.
"""

import os
import shutil
import sys
import urllib.request
from pathlib import Path

CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
DRIVER = ("/proc/driver/nvidia/version", "/sys/module/nvidia/version", "/dev/dxg")
SECONDS = 10


def has_nvidia_driver(paths: tuple[str, ...] = DRIVER) -> bool:
    """Whether the machine has an NVIDIA driver (/dev/dxg: that of Windows, seen from WSL)."""
    return any(Path(path).exists() for path in paths) or shutil.which("nvidia-smi") is not None


def answers(index: str) -> bool:
    """Whether the index lists builds of torch."""
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=SECONDS) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def torch_index() -> str:
    """Return the index from which to install torch, "" for the default one."""
    chosen = os.environ.get("TORCH_INDEX")
    if chosen is None and (sys.platform != "linux" or has_nvidia_driver()):
        return ""
    index = CPU_BUILDS if chosen is None else chosen
    if index and not answers(index):
        print(f"{index} does not answer: torch comes from the default index", file=sys.stderr)
        return ""
    return index


if __name__ == "__main__":
    print(torch_index())
