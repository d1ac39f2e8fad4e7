"""Layers in bfloat16 on a CPU: norms and activations that read and write memory less often.

The residual stream is float32, products are bfloat16. A norm of the stream is rounded once, instead
of once by every product that takes it; a norm of a product's output stays in float32, in which the
stream or the rotary positions take it. GELU with tanh is computed through the sigmoid, whose kernel
takes a ninth of the time of tanh (docs/findings.md), in pieces that fit the cache, and multiplied
in float32 where it gates another product. Queries and keys are rotated in float32 with half the
reads and writes, and rounded once. Without gradients only. Suffixes of names: N tokens, D size, H
heads, E head size.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import cast

import torch
from torch.nn.functional import gelu

from isogloss.compat.torch import replaced_forward
from isogloss.compat.transformers import Rotation, replaced_rotation, rotary_functions
from isogloss.models.language_model import LanguageModel

EPSILONS = ("variance_epsilon", "eps")  # attributes of norms that hold it
ROUNDING = 2**-6  # two steps of bfloat16
PIECE = 1 << 17  # numbers: 512 kB in float32
# gelu(x) = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3)
LINEAR = 2 * math.sqrt(2 / math.pi)
CUBIC = 0.044715 * LINEAR
GATED = ("gate_proj", "up_proj", "down_proj")
ACTIVATIONS = ("transformers.activations", "torch.nn.modules.activation")

Forward = Callable[[torch.Tensor], torch.Tensor]


def norm_epsilon(module: torch.nn.Module) -> float | None:
    """The epsilon of an RMS norm with a single weight; None for another module."""
    if not type(module).__name__.endswith("RMSNorm") or len(list(module.parameters())) != 1:
        return None
    eps = next((getattr(module, name) for name in EPSILONS if hasattr(module, name)), None)
    return eps if isinstance(eps, float) else None


@contextmanager
def lighter_layers(model: LanguageModel, *, caches: bool = False) -> Iterator[None]:
    """Context in which norms, activations and rotations run lighter, where that applies.

    With `caches` the rotations stay: a cache keeps keys in the dtype that the model gives them.
    """
    applies = model.device.type == "cpu" and model.dtype == torch.bfloat16
    if not applies or model.quantised or torch.is_grad_enabled():
        yield
        return
    if model.lighter is None:
        model.lighter = lighter_forwards(model)
        model.lighter_rotations = lighter_rotations(model)
    with ExitStack() as stack:
        for module, forward in model.lighter.items():
            stack.enter_context(replaced_forward(module, forward))
        for python_module, rotation in ({} if caches else model.lighter_rotations).items():
            stack.enter_context(replaced_rotation(python_module, rotation))
        yield


def lighter_forwards(model: LanguageModel) -> dict[torch.nn.Module, Forward]:
    """Modules of the layers and what replaces their `forward`; each is tried on random numbers."""
    found: dict[torch.nn.Module, Forward] = {}
    gated: dict[type, bool] = {}  # by class, since a trial reads all weights of an MLP
    for layer in getattr(model.network.get_decoder(), "layers", None) or ():
        for module in layer.modules():
            eps = norm_epsilon(module)
            if eps is not None:
                for added in (0.0, 1.0):  # Gemma multiplies by one more than the weight
                    norm = partial(_norm, next(module.parameters()), added, eps)
                    if module not in found and _same_norm(module, norm):
                        found[module] = norm
            elif type(module).__module__ in ACTIVATIONS and _is_tanh_gelu(module):
                found[module] = _gelu
            elif gated.get(type(module)) is None:
                gated[type(module)] = _is_gated_gelu(module)
            if gated.get(type(module)):
                found[module] = partial(_gated_mlp, module)
    return found


def _norm(weight_D: torch.Tensor, added: float, eps: float, states: torch.Tensor) -> torch.Tensor:
    """The norm of states [..., D], computed in float32; bfloat16 if the states are float32."""
    wide = states.float()
    scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = scale.square_().div_(states.shape[-1]).add_(eps).rsqrt_()
    own = wide is states
    wide = wide * scale if own else wide.mul_(scale)
    wide.mul_(weight_D.float() + added)
    return wide.to(torch.bfloat16) if own else wide


def lighter_rotations(model: LanguageModel) -> dict[ModuleType, Rotation]:
    """Python modules of the layers and what rotates in each; tried on random numbers."""
    found = rotary_functions(model.network).items()
    return {module: partial(_rotate, own) for module, own in found if _same_rotation(own)}


def _rotate(
    own: Rotation,
    query_1HNE: torch.Tensor,
    key_1HNE: torch.Tensor,
    cos_1NE: torch.Tensor,
    sin_1NE: torch.Tensor,
    **options: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys rotated by position, in bfloat16; by `own` if only a part is rotated."""
    if options or cos_1NE.dim() != 3 or cos_1NE.shape[-1] != query_1HNE.shape[-1]:
        return own(query_1HNE, key_1HNE, cos_1NE, sin_1NE, **options)
    cos_11NE, sin_11NE = cos_1NE[:, None], sin_1NE[:, None]
    return _rotated(query_1HNE, cos_11NE, sin_11NE), _rotated(key_1HNE, cos_11NE, sin_11NE)


def _rotated(
    states_1HNE: torch.Tensor, cos_11NE: torch.Tensor, sin_11NE: torch.Tensor
) -> torch.Tensor:
    """x cos + (-x2, x1) sin, where x1 and x2 are the halves of x."""
    wide = states_1HNE.float()
    rotated = wide * cos_11NE
    half = wide.shape[-1] // 2
    rotated[..., :half].addcmul_(wide[..., half:], sin_11NE[..., :half], value=-1)
    rotated[..., half:].addcmul_(wide[..., :half], sin_11NE[..., half:])
    return rotated.to(torch.bfloat16)


def _gelu(states: torch.Tensor, factors: torch.Tensor | None = None) -> torch.Tensor:
    """GELU with tanh, computed in float32, and its product with factors of the same shape."""
    states_ND = states.reshape(-1, states.shape[-1])
    output_ND = torch.empty_like(states_ND)
    rows = max(PIECE // states_ND.shape[-1], 1)
    linear = torch.tensor(LINEAR)
    factors_ND = output_ND if factors is None else factors.reshape(states_ND.shape)
    pieces = (torch.split(whole, rows) for whole in (states_ND, factors_ND, output_ND))
    for piece, factor, output in zip(*pieces, strict=True):
        wide = piece.float()
        gate = torch.addcmul(linear, wide, wide, value=CUBIC).mul_(wide).sigmoid_().mul_(wide)
        output.copy_(gate if factors is None else gate.mul_(factor))
    return output_ND.view(states.shape)


def _gated_mlp(module: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """The output of an MLP with a gate, whose product is rounded once instead of twice.

    With it the letters of Gemma 3 270M are within .026 nats of float32, else .032.
    """
    gate, up, down = (getattr(module, name) for name in GATED)
    output = down(_gelu(gate(states), up(states)))
    return cast(torch.Tensor, output)


def _same_norm(module: torch.nn.Module, norm: Forward) -> bool:
    """Whether a norm gives the module's outputs up to rounding, of float32 and bfloat16 states."""
    weight_D = next(module.parameters())
    generator = torch.Generator().manual_seed(0)
    states_ND = 3 * torch.randn(4, weight_D.shape[-1], generator=generator)
    for states in (states_ND, states_ND.bfloat16()):
        try:
            expected_ND, normed_ND = module(states), norm(states)
        except (TypeError, ValueError, RuntimeError):
            return False
        same = expected_ND.shape == normed_ND.shape
        if not same or not torch.allclose(
            normed_ND.float(), expected_ND.float(), rtol=ROUNDING, atol=1e-6
        ):
            return False
    return True


def _same_rotation(own: Rotation) -> bool:
    """Whether `_rotate` gives what a model's own function gives, up to rounding."""
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, heads, 5, 8, generator=generator) for heads in (4, 2))
    angles = torch.randn(1, 5, 4, generator=generator).repeat(1, 1, 2)
    try:
        expected = own(query, key, angles.cos(), angles.sin())
    except (TypeError, ValueError, RuntimeError):
        return False
    rotated = _rotate(own, query, key, angles.cos(), angles.sin())
    return len(expected) == len(rotated) and all(
        wanted.shape == found.shape and torch.allclose(found.float(), wanted, ROUNDING, 1e-6)
        for wanted, found in zip(expected, rotated, strict=True)
    )


def _is_gated_gelu(module: torch.nn.Module) -> bool:
    """Whether a module is an MLP whose gate is GELU with tanh, tried on random numbers."""
    layers = [getattr(module, name, None) for name in GATED]
    if not all(isinstance(layer, torch.nn.Module) for layer in layers):
        return False
    if not any(map(_is_tanh_gelu, module.children())):
        return False
    size = getattr(layers[0], "in_features", 0)
    generator = torch.Generator().manual_seed(0)
    states_ND = torch.randn(4, size, generator=generator).bfloat16()
    try:
        with torch.autocast("cpu", torch.bfloat16):
            expected_ND, output_ND = module(states_ND), _gated_mlp(module, states_ND)
    except (TypeError, ValueError, RuntimeError):
        return False
    difference = (output_ND - expected_ND).float().norm()
    return bool(difference <= ROUNDING * expected_ND.float().norm())


def _is_tanh_gelu(module: torch.nn.Module) -> bool:
    """Whether an activation is GELU with tanh; the exact one differs by up to 5e-4."""
    states_ND = torch.linspace(-6, 6, 97)[None]
    try:
        output_ND = module(states_ND)
    except (TypeError, ValueError, RuntimeError):
        return False
    expected_ND = gelu(states_ND, approximate="tanh")
    same = isinstance(output_ND, torch.Tensor) and output_ND.shape == expected_ND.shape
    return same and torch.allclose(output_ND, expected_ND, rtol=0, atol=1e-5)
