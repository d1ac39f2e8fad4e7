"""Greedy decoding in slots: a slot whose text ends gets the next prompt, so that steps stay full.

The host is one step behind the device: while it tests whether texts are complete, the next step
runs. A text that has ended may therefore get one more token, which is dropped.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psutil
import torch

from isogloss.inference.slots import ReadTokens, Slots, bytes_per_token
from isogloss.models.language_model import LanguageModel

MOST_SLOTS = 256  # from about 300 on, a step of an H100 is bound by products instead of weights
ALIGNED = 8  # products have rows in multiples of this
PART_REFILLED = 8  # a pass of prompts fills an eighth of the slots: few prompts waste a pass

# Adds a token to each of some texts; returns those that go on.
AddTokens = Callable[[Sequence[int], Sequence[int], Sequence[bool]], Sequence[int]]


class _Unread(NamedTuple):
    """Tokens on their way to the host: the index in them of each slot, and the slot's text."""

    places: dict[int, int]
    texts: dict[int, int]
    read: ReadTokens


def decode_in_slots(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    add: AddTokens,
    *,
    fused: bool,
) -> None:
    """Continue each prompt greedily until `add` no longer returns its index.

    `add` gets indices of prompts, a new token of each, and whether its logit is finite.
    """
    width = max(map(len, prompts)) + max_new_tokens
    slots = Slots(model, _slot_count(model, len(prompts), width), width, fused=fused)
    all_places = {slot: slot for slot in range(slots.count)}
    # Prompts with a common beginning are neighbours and are filled in one pass.
    waiting = deque(sorted(range(len(prompts)), key=lambda text: list(prompts[text])))
    free = list(all_places)
    texts: dict[int, int] = {}  # by slot
    unread: deque[_Unread] = deque()
    while waiting or texts:
        if waiting and (len(free) * PART_REFILLED >= slots.count or not texts):
            new = {free.pop(): waiting.popleft() for _ in range(min(len(free), len(waiting)))}
            first = slots.fill(list(new), [prompts[text] for text in new.values()])
            unread.append(_Unread({slot: place for place, slot in enumerate(new)}, new, first))
            texts |= new
        unread.append(_Unread(all_places, dict(texts), slots.step()))
        while len(unread) > 1:
            ended, spoilt = _add(unread.popleft(), texts, add)
            if ended:
                slots.release(ended, spoilt)
                free += ended
    del slots
    if model.device.type == "cuda":
        torch.cuda.empty_cache()  # scoring plans its batches by the free memory


def _add(unread: _Unread, texts: dict[int, int], add: AddTokens) -> tuple[list[int], list[int]]:
    """Add tokens to the texts that still run, and remove those that end.

    Returns their slots, and those of texts whose last logit is not finite.
    """
    running = [slot for slot, text in unread.texts.items() if texts.get(slot) == text]
    if not running:
        return [], []
    new = unread.read()
    places = [unread.places[slot] for slot in running]
    go_on = set(
        add(
            [texts[slot] for slot in running],
            [new.tokens[place] for place in places],
            [new.finite[place] for place in places],
        )
    )
    ended = [slot for slot in running if texts[slot] not in go_on]
    for slot in ended:
        del texts[slot]
    return ended, [slot for slot in ended if not new.finite[unread.places[slot]]]


def _slot_count(model: LanguageModel, n_prompts: int, width: int) -> int:
    """As many slots as prompts, as half of the free memory holds, and as are of use."""
    if model.device.type == "cuda":
        device = model.device
        free = torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    else:
        free = psutil.virtual_memory().available
    held = max(free // 2 // (width * bytes_per_token(model)), 1)
    useful = min(-(-n_prompts // ALIGNED) * ALIGNED, MOST_SLOTS)
    return min(held, useful)
