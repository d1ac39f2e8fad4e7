"""Compiled layers: on a GPU, torch.compile fuses what a decoder layer does besides its products.

Norms, rotary positions, activations and residual connections read and write memory many times
when each operation is a kernel of its own: with Qwen3-8B on an H200 they took a quarter of a pass
of 32k tokens (0.99 s, compiled 0.75 s). Compiling takes about fifteen seconds, so small models are
left as they are. Attention and the last layer, which computes some positions only, are not
compiled. TORCHDYNAMO_DISABLE=1 in the environment turns compilation off.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from isogloss.compat import public_only
from isogloss.compat.torch import compiled_call, compiled_calls
from isogloss.distributed import processes
from isogloss.models.language_model import LanguageModel

logger = logging.getLogger(__name__)

BACKEND = "inductor"
FEWEST_PARAMETERS = 10**9  # below which compiling takes longer than it saves in a study
GRAPHS = 64  # per layer; every adapter has its own, with and without gradients


def worth_compiling(model: LanguageModel) -> bool:
    """Whether the layers of a model are compiled: on one GPU, in bfloat16, from 10^9 parameters."""
    plain = not (model.quantised or model.offloaded or processes.sharded() or public_only())
    on_gpu = model.device.type == "cuda" and model.dtype == torch.bfloat16
    if not (plain and on_gpu and getattr(model.network, "hf_device_map", None) is None):
        return False
    return sum(weight.numel() for weight in model.network.parameters()) >= FEWEST_PARAMETERS


def compile_layers(model: LanguageModel) -> None:
    """Have passes over trees use compiled layers; the first passes compile them."""
    layers = getattr(model.network.get_decoder(), "layers", None)
    if layers is not None:
        logger.info(f"{model.location.name}: layers are compiled in the first passes")
        model.compiled = {layer: compiled_call(layer, BACKEND) for layer in list(layers)[:-1]}


@contextmanager
def compiled_layers(model: LanguageModel) -> Iterator[None]:
    """Context in which the layers are compiled, if `compile_layers` was called."""
    if model.compiled is None:
        yield
        return
    with compiled_calls(model.compiled, GRAPHS):
        yield
