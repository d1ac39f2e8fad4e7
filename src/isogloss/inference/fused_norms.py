"""Norms of a decode step in one kernel each; transformers' modules run eight.

A step of few tokens spends as long on a small kernel as on a large one: 145 norms of Qwen3-8B are
about a thousand kernels of 2,000. Suffixes of names: N tokens, D size.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch.nn.functional import rms_norm

from isogloss.compat.torch import replaced_forward
from isogloss.models.cpu_layers import ROUNDING, norm_epsilon
from isogloss.models.language_model import LanguageModel

HALF = {torch.bfloat16, torch.float16}


def fusible_norms(model: LanguageModel) -> dict[torch.nn.Module, float]:
    """RMS norms that multiply by their weight, which is in half precision, and their epsilons.

    Found by trying each on random numbers. Gemma's multiply by one more than the weight, in
    float32, for which there is no kernel.
    """
    norms: dict[torch.nn.Module, float] = {}
    for module in model.network.modules():
        eps = norm_epsilon(module)
        if eps is None:
            continue
        weight_D = next(module.parameters())
        if weight_D.dtype in HALF and _same(module, weight_D, eps):
            norms[module] = eps
    return norms


@contextmanager
def fused_norms(norms: dict[torch.nn.Module, float]) -> Iterator[None]:
    """Context in which these modules run as one kernel."""
    with ExitStack() as stack:
        for module, eps in norms.items():
            forward = partial(_norm, module.forward, next(module.parameters()), eps)
            stack.enter_context(replaced_forward(module, forward))
        yield


def _norm(
    forward: Callable[..., torch.Tensor], weight_D: torch.Tensor, eps: float, states: torch.Tensor
) -> torch.Tensor:
    """The norm of states [..., D]; by the module's own `forward` in another dtype."""
    if states.dtype != weight_D.dtype:
        return forward(states)
    with torch.autocast(states.device.type, enabled=False):
        return rms_norm(states, weight_D.shape, weight_D, eps)


def _same(module: torch.nn.Module, weight_D: torch.Tensor, eps: float) -> bool:
    generator = torch.Generator().manual_seed(0)
    states_ND = 3 * torch.randn(4, *weight_D.shape, generator=generator)
    states_ND = states_ND.to(weight_D.device, weight_D.dtype)
    try:
        expected_ND = module(states_ND)
    except (TypeError, ValueError, RuntimeError):
        return False
    normed_ND = _norm(module.forward, weight_D, eps, states_ND)
    if expected_ND.shape != normed_ND.shape or expected_ND.dtype != normed_ND.dtype:
        return False
    return torch.allclose(normed_ND.float(), expected_ND.float(), rtol=ROUNDING, atol=1e-6)
