"""The head of a model: logits of selected hidden states only.

With a vocabulary of 262,144 tokens the head of a small model costs more time than the rest of it,
and its logits more memory. Suffixes of names: N selected positions, D hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from accelerate.utils import align_module_device
from torch.nn.functional import linear
from transformers.modeling_outputs import MoeModelOutputWithPast

from isogloss.compat import public_only
from isogloss.compat.torch import replaced_forward
from isogloss.distributed import processes
from isogloss.models.language_model import LanguageModel

PART = 8192  # tokens per part of the vocabulary, on a CPU
GPU_PART = 1 << 18  # a GPU computes the logits of most vocabularies at once
FEW_STATES = 16  # up to which a CPU's float32 product reads the weight repeatedly from memory,
PART_FOR_FEW = 1024  # unless the part of the weight fits in the cache
ALL_TOKENS = slice(None)


def whole_passes(model: LanguageModel) -> bool:
    """Whether every pass runs through the whole model, so that its results are logits.

    Sharded weights are gathered only in such a pass, only there are all interfaces public, and some
    models compute more than their head after the last layer.
    """
    return processes.sharded() or public_only() or not model.head_apart


def logits(
    model: LanguageModel, states_ND: torch.Tensor, *, float32_head: bool = False
) -> torch.Tensor:
    """Logits [N, V] of hidden states, including what the model does after its head.

    That may be scaling or soft-capping. `float32_head` multiplies in float32 although the model has
    another dtype: with the eight significant bits of bfloat16, letters tied in one item of eight.
    With `whole_passes` the states are logits already and are returned.
    """
    if whole_passes(model):
        return states_ND
    head = model.network.get_output_embeddings()
    if type(head) is torch.nn.Linear and float32_head and model.dtype != torch.float32:
        return _through_head(model, states_ND, partial(_float32_product, head))
    if type(head) is not torch.nn.Linear or head.weight.is_meta:
        return _through_head(model, states_ND, None)
    return _through_head(model, states_ND, partial(_product, model, ALL_TOKENS, False))


def logit_parts(
    model: LanguageModel, states_ND: torch.Tensor, *, float32_head: bool = False
) -> Iterator[tuple[int, torch.Tensor]]:
    """The same logits by parts of the vocabulary: the first token of each part and [N, part].

    The weight of the head is read once for all positions, and memory holds the logits of one part
    only. A head that cannot be split is one part.
    """
    if not can_split(model):
        yield 0, logits(model, states_ND, float32_head=float32_head)
        return
    weight = model.network.get_output_embeddings().weight
    size = GPU_PART if weight.is_cuda else PART
    for start in range(0, len(weight), size):
        tokens = slice(start, start + size)
        yield start, _through_head(model, states_ND, partial(_product, model, tokens, float32_head))


def can_split(model: LanguageModel) -> bool:
    """Whether the model treats the logit of each token separately after its head.

    Tested once per model, on one state and the two halves of the vocabulary. A head with an adapter
    is another module, with a product of its own, and is not split.
    """
    head = model.network.get_output_embeddings()
    if whole_passes(model) or type(head) is not torch.nn.Linear or head.weight.is_meta:
        return False
    if model.splits is None:
        model.splits = _halves_match(model, head)
    return model.splits


@contextmanager
def head_at(
    model: LanguageModel,
    select: Callable[[torch.Tensor], torch.Tensor] | None,
    *,
    float32_head: bool,
) -> Iterator[None]:
    """Context in which a pass of the whole model has logits [1, N, V] of selected states only.

    `select` takes states [N, D] from those that reach the head; with None the head has all of them.
    A hook for float32 runs before those of DeepSpeed, which release the weight, and multiplies a
    second time.
    """
    head = model.network.get_output_embeddings()
    hooks = []
    if select is not None:
        hooks.append(head.register_forward_pre_hook(lambda _, inputs: (select(inputs[0])[None],)))
    if float32_head and model.dtype != torch.float32 and type(head) is torch.nn.Linear:
        hooks.append(
            head.register_forward_hook(
                lambda _, inputs, __: _float32_product(head, inputs[0]), prepend=True
            )
        )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@processes.no_gradients
def _halves_match(model: LanguageModel, head: torch.nn.Linear) -> bool:
    """Whether the logits of two halves of the vocabulary are those of the whole."""
    state_1D = head.weight[:1].float()
    half = len(head.weight) // 2
    try:
        parts = [
            _through_head(model, state_1D, partial(_product, model, tokens, False))
            for tokens in (slice(half), slice(half, None))
        ]
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    return torch.allclose(
        torch.cat(parts, -1).float(), logits(model, state_1D).float(), rtol=1e-2, atol=1e-2
    )


def _product(
    model: LanguageModel, tokens: slice, float32: bool, states_1ND: torch.Tensor
) -> torch.Tensor:
    """The product of the head for some tokens, in float32 or in the dtype of the model."""
    head = model.network.get_output_embeddings()
    dtype = torch.float32 if float32 else model.dtype
    with torch.autocast(head.weight.device.type, enabled=False):
        weight = (head.weight if float32 else model.head_weight)[tokens].to(dtype)
        bias = None if head.bias is None else head.bias[tokens].to(dtype)
        states_1ND = states_1ND.to(weight.device, dtype)
        few = states_1ND.shape[:-1].numel() <= FEW_STATES
        if not few or dtype != torch.float32 or weight.device.type != "cpu":
            return linear(states_1ND, weight, bias)
        return _product_by_parts(states_1ND, weight, bias, PART_FOR_FEW)


def _product_by_parts(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, size: int
) -> torch.Tensor:
    """A product with `size` rows of a weight at a time, each cast to the dtype of the states."""
    parts = [linear(states, part.to(states.dtype)) for part in torch.split(weight, size)]
    product = torch.cat(parts, -1)
    return product if bias is None else product + bias.to(states.dtype)


def _float32_product(head: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
    """The product of the head in float32; an offloaded weight is fetched first."""
    with torch.autocast(states.device.type, enabled=False), align_module_device(head):
        states = states.to(head.weight.device, torch.float32)
        return _product_by_parts(states, head.weight, head.bias, 4 * PART)


def _through_head(
    model: LanguageModel,
    states_ND: torch.Tensor,
    product: Callable[[torch.Tensor], torch.Tensor] | None,
) -> torch.Tensor:
    """What the model makes of its last hidden states, with another product of its head if set."""
    output = MoeModelOutputWithPast(last_hidden_state=states_ND[None])
    decoder = cast(torch.nn.Module, model.network.get_decoder())
    head = model.network.get_output_embeddings()
    with (
        model.autocast(),
        replaced_forward(decoder, lambda *_, **__: output),
        replaced_forward(head, product or head.forward),
    ):
        return model.network(inputs_embeds=states_ND[None], use_cache=False).logits[0]
