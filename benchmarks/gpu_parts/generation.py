"""Generation speed, beside transformers' `generate` at its best batch size of a few."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_parts.items import spread
from benchmarks.gpu_parts.measure import Deadline, peak_gb, reset_peak, seconds_of
from benchmarks.gpu_parts.work import Setting
from isogloss.inference.generation import generate
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import reasoning_prompt
from isogloss.types import Format, Reasoning

PROMPTS, NEW_TOKENS, BATCHES = 128, 64, (32, 128)
QUICK_PROMPTS, QUICK_NEW_TOKENS, QUICK_BATCHES = 4, 4, (4,)


def measure(model: LanguageModel, setting: Setting, deadline: Deadline) -> Iterator[dict[str, Any]]:
    """New tokens per second, prompts included in the time, when no text ends early."""
    prompts, new = (QUICK_PROMPTS, QUICK_NEW_TOKENS) if setting.quick else (PROMPTS, NEW_TOKENS)
    protocol = Protocol(Format.LETTER, reasoning=Reasoning.COT)
    chosen = spread(list(setting.items), prompts)[:prompts]
    contexts = [reasoning_prompt(item, protocol) for item in chosen]

    def never(_: str) -> bool:
        return False

    def isogloss(tokens: int) -> list[str]:
        written = generate(
            model, contexts, tokens, [never] * len(contexts), progress=lambda _: deadline.check()
        )
        return [entry.text for entry in written]

    isogloss(2)
    ours, texts = _timed(model, partial(isogloss, new))
    peak = peak_gb(model.device)
    lengths = [len(ids) for ids in model.tokenizer(contexts).input_ids]
    tokens_per_second = len(contexts) * new / ours
    yield {
        "prompts": len(contexts),
        "mean_prompt_tokens": sum(lengths) / len(lengths),
        "new_tokens": new,
        "decoding": str(model.decoding),
        "captured": model.captures,
        "tokens_per_second": tokens_per_second,
        "isogloss_peak_gb": peak,
    }
    tried: dict[str, Any] = {}
    theirs: list[str] = []
    for batch in QUICK_BATCHES if setting.quick else BATCHES:
        deadline.check()
        reset_peak(model.device)
        try:
            own_texts(model, contexts, 2, batch)
            seconds, theirs = _timed(model, partial(own_texts, model, contexts, new, batch))
            tried[str(batch)] = len(contexts) * new / seconds
        except torch.OutOfMemoryError:
            tried[str(batch)] = "out of memory"
    rates = [rate for rate in tried.values() if isinstance(rate, float)]
    yield {
        "generate_tokens_per_second_by_batch": tried,
        "times": tokens_per_second / max(rates) if rates else None,
        # Texts part where two tokens are equally likely up to the rounding of bfloat16.
        "same_texts": sum(left == right for left, right in zip(texts, theirs, strict=False)),
    }


def _timed(model: LanguageModel, work: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """The time of a call, the work of the device included, and its result."""
    written: list[str] = []
    seconds = seconds_of(model.device, lambda: written.extend(work()))
    return seconds, written


@torch.inference_mode()
def own_texts(model: LanguageModel, contexts: Sequence[str], new: int, size: int) -> list[str]:
    """What `generate` writes, with batches padded on the left, sorted by length."""
    ids = model.tokenizer(list(contexts)).input_ids
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]), reverse=True)
    network: Any = model.network
    texts: dict[int, str] = {}
    for start in range(0, len(ids), size):
        rows = order[start : start + size]
        width = len(ids[rows[0]])
        tokens = torch.tensor([[0] * (width - len(ids[row])) + ids[row] for row in rows])
        mask = torch.tensor([[0] * (width - len(ids[row])) + [1] * len(ids[row]) for row in rows])
        written = network.generate(
            input_ids=tokens.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=new,
            do_sample=False,
            top_k=None,
            top_p=None,
            temperature=None,
            pad_token_id=0,
        )[:, width:].tolist()
        texts |= zip(
            rows, model.tokenizer.batch_decode(written, skip_special_tokens=True), strict=True
        )
    return [texts[row] for row in range(len(ids))]
