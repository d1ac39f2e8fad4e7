"""The head of a model: logits of the hidden states that are wanted, and of those alone.

With 262,144 tokens in a vocabulary, the head costs more than the rest of a small model, and its
logits more memory. Suffixes of names: N positions that are wanted, D hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch.nn.functional import linear
from transformers.modeling_outputs import MoeModelOutputWithPast

from isogloss.distributed import processes
from isogloss.models.language_model import LanguageModel

PART = 8192  # tokens of a part of the vocabulary: its weights stay in the cache
FEW = 16  # states for which a processor's float32 product reads the weights several times over,
PART_OF_FEW = 1024  # unless from its cache, which holds a part of these many tokens
WHOLE = slice(None)


def logits(
    model: LanguageModel, states_ND: torch.Tensor, *, float32_head: bool = False
) -> torch.Tensor:
    """Logits [N, V] after given hidden states, with all that the model does to them behind its
    head (scaling, capping).

    `float32_head` has it multiply in float32 where the model itself does not: bfloat16 has eight
    bits, and of letters scored with it one item in eight was a tie.
    """
    if processes.sharded():
        return states_ND
    head = model.network.get_output_embeddings()
    if type(head) is torch.nn.Linear and float32_head and model.dtype != torch.float32:
        return _through_head(model, states_ND, partial(float32_product, head))
    if type(head) is not torch.nn.Linear or head.weight.is_meta:
        return _through_head(model, states_ND, None)
    return _through_head(model, states_ND, partial(_product, model, WHOLE, False))


def logit_parts(
    model: LanguageModel, states_ND: torch.Tensor, *, float32_head: bool = False
) -> Iterator[tuple[int, torch.Tensor]]:
    """The same logits by parts of the vocabulary, one after another: the first token of each part
    and its logits [N, at most V].

    The head's weight is read once for all positions, and no more logits are in memory than those of
    a part. A head that cannot be split is one part.
    """
    if not can_split(model):
        yield 0, logits(model, states_ND, float32_head=float32_head)
        return
    for start in range(0, len(model.network.get_output_embeddings().weight), PART):
        rows = slice(start, start + PART)
        yield start, _through_head(model, states_ND, partial(_product, model, rows, float32_head))


def can_split(model: LanguageModel) -> bool:
    """Whether what the model does behind its head, it does to each token's logit by itself.

    Tried once a model, on one state and the two halves of the vocabulary. An adapter on the head
    itself is another module, with a product of its own.
    """
    head = model.network.get_output_embeddings()
    if processes.sharded() or type(head) is not torch.nn.Linear or head.weight.is_meta:
        return False
    if model.splits is None:
        model.splits = _splits(model, head)
    return model.splits


@processes.no_gradients
def _splits(model: LanguageModel, head: torch.nn.Linear) -> bool:
    state_1D = head.weight[:1].float()
    half = len(head.weight) // 2
    try:
        parts = [
            _through_head(model, state_1D, partial(_product, model, rows, False))
            for rows in (slice(half), slice(half, None))
        ]
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    return torch.allclose(
        torch.cat(parts, -1).float(), logits(model, state_1D).float(), rtol=1e-2, atol=1e-2
    )


def _product(
    model: LanguageModel, rows: slice, float32: bool, states_1ND: torch.Tensor
) -> torch.Tensor:
    """The head's product for the tokens `rows`, in float32 or in the model's dtype."""
    head = model.network.get_output_embeddings()
    dtype = torch.float32 if float32 else model.dtype
    with torch.autocast(head.weight.device.type, enabled=False):
        weight = (head.weight if float32 else model.head_weight)[rows].to(dtype)
        bias = None if head.bias is None else head.bias[rows].to(dtype)
        states_1ND = states_1ND.to(weight.device, dtype)
        few = states_1ND.shape[:-1].numel() <= FEW
        if not few or dtype != torch.float32 or weight.device.type != "cpu":
            return linear(states_1ND, weight, bias)
        return _by_parts(states_1ND, weight, bias, PART_OF_FEW)


def _by_parts(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, size: int
) -> torch.Tensor:
    """A product with `size` rows of a weight at a time, each in the dtype of the states."""
    parts = [linear(states, part.to(states.dtype)) for part in torch.split(weight, size)]
    logits = torch.cat(parts, -1)
    return logits if bias is None else logits + bias.to(states.dtype)


def float32_product(head: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
    """The head's product in float32; its weight is brought from where it waits, if it does."""
    with torch.autocast(states.device.type, enabled=False), align_module_device(head):
        states = states.to(head.weight.device, torch.float32)
        return _by_parts(states, head.weight, head.bias, 4 * PART)


def _through_head(
    model: LanguageModel, states_ND: torch.Tensor, product: Callable[..., torch.Tensor] | None
) -> torch.Tensor:
    """The model's own way from its last hidden states to logits, with its head's product or
    another.
    """
    given = MoeModelOutputWithPast(last_hidden_state=states_ND[None])
    head = model.network.get_output_embeddings()
    with (
        model.autocast(),
        replaced(decoder(model), lambda *_, **__: given),
        replaced(head, product or head.forward),
    ):
        found_1NV: torch.Tensor = model.network(
            inputs_embeds=states_ND[None], use_cache=False
        ).logits
    return found_1NV[0]


def decoder(model: LanguageModel) -> Any:
    """The model without its head: embeddings, layers and last norm."""
    return model.network.get_decoder()


@contextmanager
def replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Context in which a module does something else."""
    kept = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if kept is not None:
            module.forward = kept
