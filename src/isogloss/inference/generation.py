"""Greedy generation in batches; a row leaves its batch as soon as its answer is complete.

transformers' `generate`, with a stopping criterion per row, gives the same texts in more time.
Measured with Gemma 3 270M in float32: 1.12 times as long for 16 reasoning prompts of up to 64 new
tokens on two cores (benchmarks/RESULTS.md). In CPU time on one core, with Belebele in English, 2.0
times as long for 24 direct answers and 1.2 times for 8 reasoning prompts. Here prompts share the
computation of common beginnings, ended texts leave the batch, and the key-value cache is not copied
with each token. With weights sharded over processes, a process without texts left still takes part
in the passes of the others (`finish_passes`).

Suffixes of names: B rows of a batch, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from isogloss.distributed import processes
from isogloss.inference.decoding import start
from isogloss.inference.progress import Progress, no_progress
from isogloss.models.forward import finish_passes
from isogloss.models.language_model import LanguageModel
from isogloss.models.memory import token_budget
from isogloss.prompts.tokenisation import decoded, hidden_tokens, prefix_tokens

TOKENS_PER_BATCH = 12288  # prompts and new tokens of all rows: the size of the key-value cache

IsComplete = Callable[[str], bool]


class Generated(NamedTuple):
    """Generated text, and whether it ended before the token limit.

    Where `finite` is false, the text ends at logits that are NaN or infinite: it is no answer.
    """

    text: str
    ended: bool
    finite: bool = True


@processes.no_gradients
def generate(
    model: LanguageModel,
    contexts: Sequence[str],
    max_new_tokens: int,
    is_complete: Sequence[IsComplete],
    *,
    chat: bool = False,
    progress: Progress = no_progress,
) -> list[Generated]:
    """Continue each context greedily; return the texts in the order of `contexts`.

    A text ends at an end-of-sequence token, at `max_new_tokens`, or when its own `is_complete` is
    true of it. In float32 it equals that of transformers' `generate` and does not depend on the
    batch, except where two tokens are equally likely up to rounding. `progress` is called after
    each token with the number of texts that have ended.
    """
    tokenizer = model.tokenizer
    prefix = prefix_tokens(tokenizer, chat)
    ids = tokenizer(list(contexts), add_special_tokens=False).input_ids if contexts else []
    prompts = [prefix + tokens for tokens in ids]
    eos, hidden = _eos_tokens(model), hidden_tokens(tokenizer)
    generated: dict[int, Generated] = {}
    # Without a head apart, a pass has the logits of all tokens.
    most_tokens = None if model.head_apart else min(TOKENS_PER_BATCH, token_budget(model))
    for rows in _batches(prompts, max_new_tokens, most_tokens):
        new_tokens: dict[int, list[int]] = {row: [] for row in rows}
        batch = start(model, [prompts[row] for row in rows], max_new_tokens)
        while rows:
            tokens, finite = _most_likely(batch.logits())
            batch.append(tokens)
            for row, token in zip(rows, tokens, strict=True):
                new_tokens[row].append(token)
            texts = decoded(tokenizer, [new_tokens[row] for row in rows], hidden)
            for row, token, text, is_finite in zip(rows, tokens, texts, finite, strict=True):
                ended = token in eos or is_complete[row](text)
                if ended or len(new_tokens[row]) == max_new_tokens or not is_finite:
                    generated[row] = Generated(text, ended, is_finite)
            running = [index for index, row in enumerate(rows) if row not in generated]
            progress(len(rows) - len(running))
            if len(running) < len(rows):
                batch.keep(running)
                rows = [rows[index] for index in running]
    finish_passes(model)
    return [generated[row] for row in range(len(prompts))]


def _most_likely(logits_BV: torch.Tensor) -> tuple[list[int], list[bool]]:
    """The most likely token of each row, and whether its logit is a number."""
    logits_BV = logits_BV.float()
    token_B = logits_BV.argmax(-1)  # that of a NaN, if there is one
    finite_B = logits_BV.gather(-1, token_B[:, None])[:, 0].isfinite()
    return token_B.tolist(), finite_B.tolist()


def _eos_tokens(model: LanguageModel) -> set[int]:
    """Return the tokens that end a text: those of the generation config, else the tokenizer's."""
    eos = model.network.generation_config.eos_token_id
    if eos is None:
        eos = model.tokenizer.eos_token_id
    if eos is None:
        return set()
    return set(eos) if isinstance(eos, list) else {eos}


def _batches(
    prompts: Sequence[Sequence[int]], max_new_tokens: int, most_tokens: int | None = None
) -> Iterator[list[int]]:
    """Yield indices of prompts, the longest first, in batches of up to `most_tokens`.

    By default as many as TOKENS_PER_BATCH.
    """
    most_tokens = most_tokens or TOKENS_PER_BATCH
    batch: list[int] = []
    for row in sorted(range(len(prompts)), key=lambda row: len(prompts[row]), reverse=True):
        width = len(prompts[batch[0]]) + max_new_tokens if batch else 0
        if batch and (len(batch) + 1) * width > most_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
