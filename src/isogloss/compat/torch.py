"""PyTorch: modules that compute something else for a while.

Relies on `Module.__call__` looking `forward` up on the instance, within the module's hooks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def replaced_forward(module: torch.nn.Module, forward: Callable[..., object]) -> Iterator[None]:
    """Context in which `module(...)` calls `forward`.

    accelerate replaces `forward` of modules that it moves between devices in the same way, so an
    earlier replacement is restored.
    """
    instance = vars(module)
    earlier = instance.get("forward")
    instance["forward"] = forward
    try:
        yield
    finally:
        if earlier is None:
            del instance["forward"]
        else:
            instance["forward"] = earlier
