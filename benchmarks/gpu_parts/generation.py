"""Generation speed, beside transformers' `generate` at its best batch size of a few."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_parts.items import spread
from benchmarks.gpu_parts.measure import Deadline, peak_gb, seconds_of
from benchmarks.gpu_parts.work import Setting
from isogloss.inference.generation import generate
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import reasoning_prompt
from isogloss.types import Format, Reasoning

PROMPTS, NEW_TOKENS, BATCHES = 128, 64, (32, 128)
QUICK_PROMPTS, QUICK_NEW_TOKENS, QUICK_BATCHES = 4, 4, (4,)


def measure(model: LanguageModel, setting: Setting, deadline: Deadline) -> dict[str, Any]:
    """New tokens per second, prompts included in the time, when no text ends early."""
    prompts, new = (QUICK_PROMPTS, QUICK_NEW_TOKENS) if setting.quick else (PROMPTS, NEW_TOKENS)
    protocol = Protocol(Format.LETTER, reasoning=Reasoning.COT)
    chosen = spread(list(setting.items), prompts)[:prompts]
    contexts = [reasoning_prompt(item, protocol) for item in chosen]

    def never(_: str) -> bool:
        return False

    def isogloss(texts: Sequence[str], tokens: int) -> None:
        generate(model, texts, tokens, [never] * len(texts), progress=lambda _: deadline.check())

    isogloss(contexts[:4], 2)
    seconds = seconds_of(model.device, lambda: isogloss(contexts, new))
    ours = len(contexts) * new / seconds
    peak = peak_gb(model.device)
    tried: dict[str, Any] = {}
    for batch in QUICK_BATCHES if setting.quick else BATCHES:
        deadline.check()
        try:
            _transformers(model, contexts[:2], 2, 2)
            work = partial(_transformers, model, contexts, new, batch)
            took = seconds_of(model.device, work)
            tried[str(batch)] = len(contexts) * new / took
        except torch.OutOfMemoryError:
            tried[str(batch)] = "out of memory"
            torch.cuda.empty_cache()
    rates = [rate for rate in tried.values() if isinstance(rate, float)]
    lengths = [len(ids) for ids in model.tokenizer(contexts).input_ids]
    return {
        "prompts": len(contexts),
        "mean_prompt_tokens": sum(lengths) / len(lengths),
        "new_tokens": new,
        "tokens_per_second": ours,
        "generate_tokens_per_second_by_batch": tried,
        "isogloss_peak_gb": peak,
        "times": ours / max(rates) if rates else None,
    }


@torch.inference_mode()
def _transformers(model: LanguageModel, contexts: Sequence[str], new: int, size: int) -> None:
    """`generate` with batches padded on the left, sorted by length."""
    ids = sorted(model.tokenizer(list(contexts)).input_ids, key=len, reverse=True)
    network: Any = model.network
    for start in range(0, len(ids), size):
        batch = ids[start : start + size]
        width = len(batch[0])
        tokens = torch.tensor([[0] * (width - len(row)) + row for row in batch])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
        network.generate(
            input_ids=tokens.to(model.device),
            attention_mask=mask.to(model.device),
            min_new_tokens=None,
            max_new_tokens=new,
            do_sample=False,
            top_k=None,
            top_p=None,
            temperature=None,
            pad_token_id=0,
        )
