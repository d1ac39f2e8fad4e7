"""PyTorch: attention of variable length, copies that nothing waits for, replaced modules.

Relies on `varlen_attn` taking fewer key-value heads than heads, in torch 2.11 without being told,
and aligning the last query of a sequence with its last key; on `Module.compile` leaving what a
module then calls in `_compiled_call_impl`; and on `Module.__call__` looking
`forward` up on the instance, within the module's hooks.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import numpy.typing as npt
import torch


def on_device(
    values: npt.ArrayLike, device: torch.device, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """A tensor of values from the host; a GPU receives them while the host prepares more work.

    `torch.tensor(values, device="cuda")` waits until the GPU has done all it was given.
    """
    tensor = torch.as_tensor(values, dtype=dtype)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def varlen_attention(
    query_THE: torch.Tensor,
    key_SKE: torch.Tensor,
    value_SKE: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    most: tuple[int, int],
    *,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Causal attention [T, H, E] within sequences of variable length, by FlashAttention on a GPU.

    Sequence i has the queries from `query_starts[i]` to the next and the keys from `key_starts[i]`;
    both are int32. `most` are the lengths of the longest queries and keys. A query sees up to
    `window` keys that end at its own.
    """
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    left = -1 if window is None else window - 1
    options = {"scale": scale, "window_size": (left, 0), "enable_gqa": True}
    options = {name: value for name, value in options.items() if name in known}
    call = cast(Callable[..., torch.Tensor], varlen_attn)
    return call(query_THE, key_SKE, value_SKE, query_starts, key_starts, *most, **options)


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


def compiled_call(module: torch.nn.Module, backend: str) -> object:
    """What a module calls once it is compiled for inputs of any size; it stays uncompiled."""
    module.compile(dynamic=True, backend=backend)
    call = vars(module)["_compiled_call_impl"]
    vars(module)["_compiled_call_impl"] = None
    return call


@contextmanager
def compiled_calls(calls: Mapping[torch.nn.Module, object], graphs: int) -> Iterator[None]:
    """Context in which modules call what `compiled_call` returned, with up to `graphs` graphs each.

    A graph that cannot be compiled runs as it is.
    """
    settings = {"suppress_errors": True, "recompile_limit": graphs}
    with torch._dynamo.config.patch(settings):
        for module, call in calls.items():
            vars(module)["_compiled_call_impl"] = call
        try:
            yield
        finally:
            for module in calls:
                vars(module)["_compiled_call_impl"] = None


def flash_decode(
    query_NHE: torch.Tensor,
    key_TKE: torch.Tensor,
    value_TKE: torch.Tensor,
    starts: torch.Tensor,
    used_N: torch.Tensor,
    *,
    width: int,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Flash attention [N, H, E] of the last token of each of N sequences to its sequence.

    Sequence n is the first `used_N[n]` of the keys from `starts[n]` on, `width` at most; `window`
    is how many of them its token sees, itself included, None for all. CUDA only, in half precision.
    This is the function behind `torch.nn.attention.varlen.varlen_attn`, whose own interface changes
    between torch 2.10 and 2.13.
    """
    attended, *_ = torch.ops.aten._flash_attention_forward(
        query_NHE,
        key_TKE,
        value_TKE,
        torch.arange(len(starts), device=starts.device, dtype=starts.dtype),  # a query each
        starts,
        1,
        width,
        0.0,  # dropout
        False,  # causal: the last token sees nothing behind it anyway
        False,
        scale=scale,
        window_size_left=None if window is None else window - 1,
        window_size_right=None if window is None else 0,
        seqused_k=used_N,
    )
    return cast(torch.Tensor, attended)


@contextmanager
def synchronisation_refused() -> Iterator[None]:
    """Context in which an operation that waits for the GPU raises RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    _set_sync_debug_mode("error")
    try:
        yield
    finally:
        _set_sync_debug_mode(before)


def _set_sync_debug_mode(mode: str | int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype", UserWarning)
        torch.cuda.set_sync_debug_mode(mode)
