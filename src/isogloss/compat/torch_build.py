"""torch: its version and whether it was built for GPUs, without importing it, which takes seconds.

Relies on the file version.py beside torch's `__init__.py`, which imports nothing of torch.
"""

import runpy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from isogloss.compat import public_only


class TorchBuild(NamedTuple):
    """The version of the installed torch; `for_gpu` is false if it can use no GPU."""

    version: str
    for_gpu: bool


@cache
def torch_build() -> TorchBuild:
    """The installed torch."""
    spec = find_spec("torch")
    if public_only() or spec is None or spec.origin is None:
        import torch.version

        facts = vars(torch.version)
    else:
        facts = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    for_gpu = facts["cuda"] is not None or facts["hip"] is not None
    return TorchBuild(str(facts["__version__"]), for_gpu)
