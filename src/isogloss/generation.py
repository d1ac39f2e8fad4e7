"""Generation: greedy text in batches, each row stopped as soon as its answer is given.

Suffixes of names: B rows of a batch, T tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from isogloss import processes
from isogloss.models import LanguageModel
from isogloss.scoring import first_tokens

TOKENS_PER_BATCH = 12288  # prompt and budget of all rows; also what the KV cache has to hold


class Generated(NamedTuple):
    """Generated text, and whether it came to its end or only to the end of its budget."""

    text: str
    ended: bool


class _Stop(StoppingCriteria):  # type: ignore[misc]
    """Stops each row whose generated text is complete."""

    def __init__(
        self, tokenizer: Any, prompt_length: int, complete: Sequence[Callable[[str], bool]]
    ):
        self.tokenizer = tokenizer
        self.prompt_length = prompt_length
        self.complete = complete
        self.stopped_B = torch.zeros(len(complete), dtype=torch.bool)

    def __call__(self, tokens_BT: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        running = (~self.stopped_B).nonzero().flatten().tolist()
        texts = self.tokenizer.batch_decode(
            tokens_BT[running, self.prompt_length :], skip_special_tokens=True
        )
        for row, text in zip(running, texts, strict=True):
            self.stopped_B[row] = self.complete[row](text)
        return self.stopped_B.to(tokens_BT.device)


@processes.no_gradients
def generate(
    model: LanguageModel,
    contexts: Sequence[str],
    max_new_tokens: int,
    complete: Sequence[Callable[[str], bool]],
    *,
    chat: bool = False,
    done: Callable[[int], object] = lambda count: None,
) -> list[Generated]:
    """Greedy continuation of each context, in their order.

    A row ends at an end-of-sequence token, at `max_new_tokens`, or once its own `complete(text)`
    holds. Prompts are sorted by length and padded on the left; the key-value cache and the loop are
    transformers' `generate`. In float32 a row's text does not depend on the batch, save where two
    tokens are equally likely to rounding.
    """
    tokenizer = model.tokenizer
    first = first_tokens(tokenizer, chat)
    ids = tokenizer(list(contexts), add_special_tokens=False).input_ids if contexts else []
    prompts = [first + tokens for tokens in ids]
    ends = model.network.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = ends[0] if ends else 0
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=ends or None, pad_token_id=pad
    )
    found: dict[int, Generated] = {}
    with model.casts_kept():
        batches = list(_batches(prompts, max_new_tokens))
        idle = processes.idle(len(batches))
        for batch in batches:
            length = max(len(prompts[row]) for row in batch)
            tokens_BT = torch.full((len(batch), length), pad, dtype=torch.long)
            mask_BT = torch.zeros_like(tokens_BT)
            for place, row in enumerate(batch):
                tokens_BT[place, length - len(prompts[row]) :] = torch.tensor(prompts[row])
                mask_BT[place, length - len(prompts[row]) :] = 1
            stop = _Stop(tokenizer, length, [complete[row] for row in batch])
            output_BT = model.network.generate(
                input_ids=tokens_BT.to(model.device),
                attention_mask=mask_BT.to(model.device),
                generation_config=settings,
                stopping_criteria=StoppingCriteriaList([stop]),
                synced_gpus=processes.sharded(),
            )
            written_BT = output_BT[:, length:]
            # Rows that ended before the longest one are padded.
            ended_B = stop.stopped_B | torch.isin(written_BT.cpu(), torch.tensor(ends)).any(-1)
            written = tokenizer.batch_decode(written_BT, skip_special_tokens=True)
            for row, text, ended in zip(batch, written, ended_B.tolist(), strict=True):
                found[row] = Generated(text, ended)
            done(len(batch))
        for _ in range(idle):
            alone = GenerationConfig(max_new_tokens=1, do_sample=False, pad_token_id=pad)
            token_BT = torch.full((1, 1), pad, device=model.device)
            model.network.generate(token_BT, generation_config=alone, synced_gpus=True)
    return [found[row] for row in range(len(prompts))]


def _batches(prompts: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Indices of prompts, longest first, as many as TOKENS_PER_BATCH holds."""
    batch: list[int] = []
    for row in sorted(range(len(prompts)), key=lambda row: len(prompts[row]), reverse=True):
        if batch and (len(batch) + 1) * (len(prompts[batch[0]]) + budget) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
