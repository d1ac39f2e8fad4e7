"""transformers' `generate`, greedy: one prompt at a time or all together, padded on the left.

`stop` adds a criterion that ends each row once its answer is complete, as isogloss does; without it
a row ends at an end-of-sequence token or at the token budget. Texts are cut after timing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    StoppingCriteria,
    StoppingCriteriaList,
)

from benchmarks.contenders.generated import completes, digests
from benchmarks.contenders.job import Stopwatch, main, peak_mb, read


class _Stop(StoppingCriteria):
    def __init__(self, tokenizer: Any, length: int, complete: Sequence[Callable[[str], bool]]):
        self.tokenizer, self.length, self.complete = tokenizer, length, complete

    def __call__(self, ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        texts = self.tokenizer.batch_decode(ids[:, self.length :], skip_special_tokens=True)
        return torch.tensor([done(text) for done, text in zip(self.complete, texts, strict=True)])


def _kept(tokenizer: Any, ids: Sequence[int], complete: Callable[[str], bool]) -> str:
    """The text up to the token that completes its answer."""
    for length in range(1, len(ids)):
        text = tokenizer.decode(ids[:length], skip_special_tokens=True)
        if complete(text):
            return str(text)
    return str(tokenizer.decode(ids, skip_special_tokens=True))


@torch.inference_mode()
def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Generate for all prompts in batches of `job["batch"]`."""
    tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    dtype = getattr(torch, job["dtype"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype).eval()
    rows = read(job["prompts"])
    complete = completes(rows)
    written: list[list[int]] = []
    watch = Stopwatch()
    with watch:
        for first in range(0, len(rows), job["batch"]):
            batch = rows[first : first + job["batch"]]
            inputs = tokenizer([row["context"] for row in batch], return_tensors="pt", padding=True)
            length = inputs["input_ids"].shape[1]
            stop = [_Stop(tokenizer, length, complete[first : first + job["batch"]])]
            output = model.generate(
                **inputs,
                max_new_tokens=job["max_new_tokens"],
                do_sample=False,
                top_k=None,
                top_p=None,
                stopping_criteria=StoppingCriteriaList(stop if job["stop"] else []),
            )
            written += output[:, length:].tolist()
    peak = peak_mb()
    texts = [_kept(tokenizer, ids, done) for ids, done in zip(written, complete, strict=True)]
    pad = tokenizer.pad_token_id
    return {
        **watch.spent,
        "peak_mb": peak,
        "items": len(rows),
        "texts": digests(texts),
        "kept_tokens": sum(map(len, tokenizer(texts, add_special_tokens=False).input_ids)),
        "written_tokens": sum(token != pad for ids in written for token in ids),
        "threads": torch.get_num_threads(),
        "dtype": job["dtype"],
    }


if __name__ == "__main__":
    main(measure)
