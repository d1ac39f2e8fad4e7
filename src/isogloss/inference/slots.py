"""Slots: a key-value cache of fixed size, and a decode step that a CUDA graph can replay.

Each slot holds one text. A step takes the last token of every slot, writes its keys and values into
the cache, attends to the slot and chooses the next token, all on the device. No shape and no launch
depends on how long the texts are, so that one graph serves all steps and the host launches it
without waiting for the tokens.

Suffixes of names: S slots, K key-value heads, H heads, G heads per key-value head, W tokens of a
slot, E size of a head, N prompt tokens, D hidden size, V vocabulary.
"""

import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from isogloss.compat.torch import flash_decode, on_device, synchronisation_refused
from isogloss.compat.transformers import register_attention, replaced_attention
from isogloss.inference.fused_norms import fused_norms, fusible_norms
from isogloss.inference.prefill import TreePass, keys_values, tree_passes
from isogloss.models.forward import forward, hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import logits, whole_passes
from isogloss.models.memory import out_of_memory
from isogloss.models.paths import can_share, trial_sequences
from isogloss.models.prefix_tree import TokenTree

logger = logging.getLogger(__name__)

NAME = "isogloss_slots"
SLOT_DEVICES = {"cuda"}  # where a step costs more to launch than to compute
FUSED_DTYPES = {torch.bfloat16, torch.float16}


class Tokens(NamedTuple):
    """New tokens, and whether the logit of each is finite."""

    tokens: list[int]
    finite: list[bool]


ReadTokens = Callable[[], Tokens]


class SlotLayer(DynamicLayer):
    """Keys and values [S, K, W, E] of one layer; a pass writes one token to each slot."""

    def __init__(self, keys_SKWE: torch.Tensor, values_SKWE: torch.Tensor, lengths_S: torch.Tensor):
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys_SKWE, values_SKWE)
        self.keys, self.values, self.lengths_S = keys_SKWE, values_SKWE, lengths_S
        self.index_S = torch.arange(len(lengths_S), device=lengths_S.device)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write keys and values [S, K, 1, E] behind those of each slot; return all of them."""
        stored = keys_values(self)
        for target_SKWE, new_SK1E in zip(stored, (key_states, value_states), strict=True):
            new_SKE = new_SK1E[:, :, 0].to(target_SKWE.dtype)
            target_SKWE[self.index_S, :, self.lengths_S] = new_SKE
        return stored

    def get_seq_length(self) -> int:
        """Return the width of a slot: how many tokens it holds is known to the device alone."""
        return int(keys_values(self)[0].shape[2])


class Slots:
    """Texts of up to `width` tokens, up to `count` of them, that are continued together.

    With `fused`, attention is torch's flash attention, which reads only the tokens that a slot
    holds; otherwise plain products with whole slots. A slot without a text takes part in the steps
    and its tokens mean nothing.
    """

    def __init__(self, model: LanguageModel, count: int, width: int, *, fused: bool = False):
        self.model, self.count, self.width, self.fused = model, count, width, fused
        # The last token of each text.
        self.tokens_S = torch.zeros(count, device=model.device, dtype=torch.long)
        self.lengths_S = torch.zeros_like(self.tokens_S)  # number of tokens before it, in the cache
        self.occupied_S = torch.zeros_like(self.tokens_S)  # 1 for a slot with a text, else 0
        self.chosen_S = torch.zeros_like(self.tokens_S)  # see `_marked`
        self.starts_S = width * torch.arange(count + 1, device=model.device, dtype=torch.int32)
        self.used_S = torch.ones(count, device=model.device, dtype=torch.int32)
        self.masks: dict[int | None, torch.Tensor] = {}  # of the present step, by window
        self.logits_SV = torch.empty(0)
        self.cache = Cache(layers=[self._layer(*heads) for heads in cached_heads(model)])
        self.norms = fusible_norms(model) if fused else {}
        self.graph = _captured(model, self._compute)

    def fill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> ReadTokens:
        """Put prompts into slots; return a function that gives the first new token of each."""
        device = self.model.device
        chosen = []
        order: list[int] = []
        for tree_pass in tree_passes(self.model, prompts):
            self._store(tree_pass, slots)
            chosen.append(_marked(logits(self.model, tree_pass.last_states)))
            order += tree_pass.rows
        chosen_N = torch.cat(chosen)
        index_N = on_device([slots[row] for row in order], device)
        self.tokens_S[index_N] = _unmarked(chosen_N)
        self.lengths_S[index_N] = on_device([len(prompts[row]) for row in order], device)
        self.occupied_S.index_fill_(0, index_N, 1)
        return _on_its_way(chosen_N[on_device(order, device).argsort()])

    def step(self) -> ReadTokens:
        """Choose the next token of every slot; return a function that waits for them."""
        if self.graph is None:
            self._compute()
        else:
            self.graph.replay()
        return _on_its_way(self.chosen_S)

    def release(self, slots: Sequence[int], spoilt: Sequence[int] = ()) -> None:
        """Leave slots without texts.

        Values of `spoilt` slots, which may be NaN, become zeros: a weight of zero would not
        remove them from the next text.
        """
        index_N = on_device(slots, self.model.device)
        self.occupied_S.index_fill_(0, index_N, 0)
        self.lengths_S.index_fill_(0, index_N, 0)
        if spoilt:
            spoilt_N = on_device(spoilt, self.model.device)
            for layer in self.cache.layers:
                for stored_SKWE in keys_values(layer):
                    stored_SKWE.index_fill_(0, spoilt_N, 0)

    def mask(self, window: int | None) -> torch.Tensor:
        """[S, 1, 1, W] boolean: which tokens of its slot a new token attends to."""
        if window not in self.masks:
            place_W = torch.arange(self.width, device=self.lengths_S.device)
            distance_SW = self.lengths_S[:, None] - place_W
            mask_SW = distance_SW >= 0
            if window is not None:
                mask_SW &= distance_SW < window
            self.masks[window] = mask_SW[:, None, None]
        return self.masks[window]

    def _compute(self) -> None:
        """One step, with nothing that the host has to know."""
        self.masks.clear()
        self.used_S.copy_(self.lengths_S + 1)
        with replaced_attention(self.model.network, NAME), fused_norms(self.norms):
            states_SD = forward(
                self.model,
                lambda hidden_S1D: hidden_S1D[:, -1],
                input_ids=self.tokens_S[:, None],
                position_ids=self.lengths_S[:, None],
                past_key_values=self.cache,
                use_cache=True,
                slots=self,
            )
        self.logits_SV = logits(self.model, states_SD)
        self.chosen_S.copy_(_marked(self.logits_SV))
        self.tokens_S.copy_(_unmarked(self.chosen_S))
        # A text that has ended may get one more token before its slot is released.
        self.lengths_S.add_(self.occupied_S).clamp_(max=self.width - 1)

    def _layer(self, heads: int, *sizes: int) -> SlotLayer:
        """An empty layer of keys and values with these sizes of a head.

        Flash attention takes all heads of a token side by side, products all tokens of a head.
        """
        inner = (self.width, heads) if self.fused else (heads, self.width)
        keys, values = (
            torch.zeros(self.count, *inner, size, dtype=self.model.dtype, device=self.model.device)
            for size in sizes
        )
        if self.fused:
            keys, values = keys.transpose(1, 2), values.transpose(1, 2)
        return SlotLayer(keys, values, self.lengths_S)

    def _store(self, tree_pass: TreePass, slots: Sequence[int]) -> None:
        """Copy keys and values of prompts into their slots."""
        device = self.model.device
        sizes = [len(path) for path in tree_pass.paths]
        owners = [slots[row] for row in tree_pass.rows]
        nodes_N, slots_N, places_N = (
            on_device(values, device)
            for values in (
                [node for path in tree_pass.paths for node in path],
                [slot for slot, size in zip(owners, sizes, strict=True) for _ in range(size)],
                [place for size in sizes for place in range(size)],
            )
        )
        for layer, flat_layer in zip(self.cache.layers, tree_pass.layers, strict=True):
            pairs = zip(keys_values(layer), keys_values(flat_layer), strict=True)
            for target_SKWE, flat_1KTE in pairs:
                new_NKE = flat_1KTE[0][:, nodes_N].transpose(0, 1).to(target_SKWE.dtype)
                target_SKWE[slots_N, :, places_N] = new_NKE


def usable(model: LanguageModel, *, fused: bool) -> bool:
    """Whether slots are worth a trial: one GPU with all weights, attention that can be replaced."""
    if fused and (model.device.type != "cuda" or model.dtype not in FUSED_DTYPES):
        return False
    on_one = len({weight.device for weight in model.network.parameters()}) == 1
    return (
        model.device.type in SLOT_DEVICES
        and on_one
        and not model.offloaded
        and can_share(model)
        and not whole_passes(model)
    )


def cached_heads(model: LanguageModel) -> list[tuple[int, int, int]]:
    """The number of key-value heads of each layer and the sizes of their keys and values."""
    if model.cached_heads is None:
        tree, flat = TokenTree(), DynamicCache()
        hidden_states(model, [tree], [tree.insert(trial_sequences(model)[0])], flat)
        pairs = [keys_values(layer) for layer in flat.layers]
        model.cached_heads = [
            (keys.shape[1], keys.shape[3], values.shape[3]) for keys, values in pairs
        ]
    return model.cached_heads


def bytes_per_token(model: LanguageModel) -> int:
    """Size of a token's keys and values in all layers."""
    numbers = sum(heads * (key + value) for heads, key, value in cached_heads(model))
    return numbers * model.dtype.itemsize


def attend(
    module: torch.nn.Module,
    query_SH1E: torch.Tensor,
    key_SKWE: torch.Tensor,
    value_SKWE: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    slots: Slots,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of one token to its slot, in the form of transformers' attention functions.

    Returns attended values [S, 1, H, E].
    """
    scale = query_SH1E.shape[-1] ** -0.5 if scaling is None else scaling
    query_SH1E = query_SH1E.to(key_SKWE.dtype)
    if slots.fused:
        if softcap is not None:
            raise ValueError("flash attention has no soft-capped scores")
        attended_SHE = flash_decode(
            query_SH1E[:, :, 0],
            key_SKWE.transpose(1, 2).flatten(0, 1),  # [S * W, K, E]: no copy, see `Slots._layer`
            value_SKWE.transpose(1, 2).flatten(0, 1),
            slots.starts_S,
            slots.used_S,
            width=slots.width,
            scale=scale,
            window=sliding_window,
        )
        return attended_SHE[:, None], None
    (count, heads), groups = query_SH1E.shape[:2], key_SKWE.shape[1]
    # The queries of all heads with the same keys are rows of one product.
    query_SKGE = query_SH1E.reshape(count, groups, heads // groups, -1)
    scores = torch.matmul(query_SKGE, key_SKWE.transpose(2, 3)).float() * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~slots.mask(sliding_window), -torch.inf)
    attended = torch.matmul(scores.softmax(-1).to(value_SKWE.dtype), value_SKWE)
    return attended.reshape(count, 1, heads, -1), None


register_attention(NAME, attend)


def _marked(logits_NV: torch.Tensor) -> torch.Tensor:
    """The most likely tokens [N]; a token t whose logit is NaN or infinite as -1 - t."""
    token_N = logits_NV.argmax(-1)  # that of a NaN, if there is one
    finite_N = logits_NV.gather(-1, token_N[:, None])[:, 0].isfinite()
    return torch.where(finite_N, token_N, -1 - token_N)


def _unmarked(chosen_N: torch.Tensor) -> torch.Tensor:
    return torch.where(chosen_N < 0, -1 - chosen_N, chosen_N)


def _on_its_way(chosen_N: torch.Tensor) -> ReadTokens:
    """Start to copy tokens to the host; return a function that waits for them.

    On a GPU the steps that are launched meanwhile do not delay the copy, nor it them.
    """
    on_gpu = chosen_N.device.type == "cuda"
    buffer_N = torch.empty(chosen_N.shape, dtype=chosen_N.dtype, pin_memory=on_gpu)
    buffer_N.copy_(chosen_N, non_blocking=True)
    arrived = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
    if arrived is not None:
        arrived.record(torch.cuda.current_stream(chosen_N.device))

    def read() -> Tokens:
        if arrived is not None:
            arrived.synchronize()
        chosen = buffer_N.tolist()
        return Tokens(
            [max(token, -1 - token) for token in chosen], [token >= 0 for token in chosen]
        )

    return read


def _captured(model: LanguageModel, compute: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
    """A CUDA graph of a step, captured once it has run; None where there can be none.

    A step that waits for the GPU, as some routers of experts do, cannot be captured.
    """
    if model.device.type != "cuda" or model.captures is False:
        return None
    try:
        with torch.cuda.device(model.device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                compute()  # the first run allocates workspaces and builds kernels
                with synchronisation_refused():
                    compute()
            torch.cuda.current_stream().wait_stream(stream)
            graph = _recorded(compute, stream)
            model.captures = True
            return graph
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.info(f"{model.location.name}: no CUDA graph of a decode step ({reason}); slower")
        model.captures = False
        return None


def _recorded(compute: Callable[[], None], stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """The graph of a step; `torch.cuda.graph` would collect garbage first, which takes longer."""
    graph = torch.cuda.CUDAGraph()
    collects = gc.isenabled()
    gc.disable()  # whatever is freed here must not belong to another graph
    try:
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                compute()
            except BaseException:
                with suppress(RuntimeError):  # the capture is not valid; its stream is released
                    graph.capture_end()
                raise
            graph.capture_end()
    finally:
        if collects:
            gc.enable()
    return graph
