"""Greedy generation in batches; a text leaves its batch as soon as its answer is complete.

On a GPU its slot gets the next prompt then (see `slot_decoding`).

transformers' `generate`, with a stopping criterion per row, gives the same texts in more time.
Measured with Gemma 3 270M in float32: 1.12 times as long for 16 reasoning prompts of up to 64 new
tokens on two cores (benchmarks/RESULTS-no_bf16.md). In CPU time on one core, with Belebele in
English, 2.0 times as long for 24 direct answers and 1.2 times for 8 reasoning prompts. Here prompts
share the computation of common beginnings, ended texts leave the batch, and the key-value cache is
not copied with each token. With weights sharded over processes, a process without texts left still
takes part in the passes of the others (`finish_passes`).

Suffixes of names: B rows of a batch, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from isogloss.distributed import processes
from isogloss.inference.decoding import SLOT_KINDS, decoding_of, start
from isogloss.inference.growing_text import GrowingText, texts_so_far
from isogloss.inference.progress import Progress, no_progress
from isogloss.inference.slot_decoding import decode_in_slots
from isogloss.inference.slots import SLOT_DEVICES
from isogloss.models.batch_limits import GENERATION_TOKENS
from isogloss.models.forward import finish_passes
from isogloss.models.language_model import Decoding, LanguageModel
from isogloss.models.memory import token_budget
from isogloss.prompts.tokenisation import decoded, hidden_tokens, prefix_tokens

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
    texts = _Texts(model, max_new_tokens, is_complete, progress)
    on_gpu = prompts and model.device.type in SLOT_DEVICES
    kind = decoding_of(model, prompts, max_new_tokens) if on_gpu else None
    if kind in SLOT_KINDS:
        fused = kind == Decoding.FUSED
        decode_in_slots(model, prompts, max_new_tokens, texts.add, fused=fused)
    else:
        _decode_in_batches(model, prompts, max_new_tokens, texts)
    finish_passes(model)
    return [texts.generated[row] for row in range(len(prompts))]


class _Texts:
    """New tokens of all texts; a text whose last token has come is in `generated`."""

    def __init__(
        self,
        model: LanguageModel,
        max_new_tokens: int,
        is_complete: Sequence[IsComplete],
        progress: Progress,
    ):
        self.tokenizer = model.tokenizer
        self.max_new_tokens, self.is_complete, self.progress = max_new_tokens, is_complete, progress
        self.eos, self.hidden = _eos_tokens(model), hidden_tokens(model.tokenizer)
        self.texts = [GrowingText() for _ in is_complete]
        self.generated: dict[int, Generated] = {}

    def add(self, rows: Sequence[int], tokens: Sequence[int], finite: Sequence[bool]) -> list[int]:
        """Add a token to each text of `rows`; return the indices of those that go on."""
        growing = [self.texts[row] for row in rows]
        for entry, token in zip(growing, tokens, strict=True):
            entry.tokens.append(token)
        so_far = texts_so_far(self.tokenizer, growing, self.hidden)
        for row, token, text, is_finite in zip(rows, tokens, so_far, finite, strict=True):
            ended = token in self.eos or self.is_complete[row](text)
            if ended or len(self.texts[row].tokens) == self.max_new_tokens or not is_finite:
                self._end(row, Generated(text, ended, is_finite))
        running = [row for row in rows if row not in self.generated]
        self.progress(len(rows) - len(running))
        return running

    def _end(self, row: int, generated: Generated) -> None:
        """Keep a generated text, unless decoding it in one piece gives another."""
        text = self.texts[row]
        if text.whole or decoded(self.tokenizer, [text.tokens], self.hidden) == [generated.text]:
            self.generated[row] = generated
            return
        text.decode_whole()
        prefixes = [text.tokens[: size + 1] for size in range(len(text.tokens))]
        for size, prefix in enumerate(decoded(self.tokenizer, prefixes, self.hidden), start=1):
            last = size == len(prefixes)
            ended = text.tokens[size - 1] in self.eos or self.is_complete[row](prefix)
            cut_off = last and (size == self.max_new_tokens or not generated.finite)
            if ended or cut_off:
                self.generated[row] = Generated(prefix, ended, generated.finite or not last)
                return


def _decode_in_batches(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, texts: _Texts
) -> None:
    """Continue prompts of similar length together; the next batch begins when all have ended."""
    # Without a head apart, a pass has the logits of all tokens.
    most_tokens = None if model.head_apart else min(GENERATION_TOKENS, token_budget(model))
    for rows in _batches(prompts, max_new_tokens, most_tokens):
        batch = start(model, [prompts[row] for row in rows], max_new_tokens)
        while rows:
            tokens, finite = _most_likely(batch.logits())
            batch.append(tokens)
            running = texts.add(rows, tokens, finite)
            if len(running) < len(rows):
                batch.keep([index for index, row in enumerate(rows) if row not in texts.generated])
                rows = running


def _most_likely(logits_BV: torch.Tensor) -> tuple[list[int], list[bool]]:
    """The most likely token of each row, and whether its logit is finite."""
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

    By default as many as GENERATION_TOKENS.
    """
    most_tokens = most_tokens or GENERATION_TOKENS
    batch: list[int] = []
    for row in sorted(range(len(prompts)), key=lambda row: len(prompts[row]), reverse=True):
        width = len(prompts[batch[0]]) + max_new_tokens if batch else 0
        if batch and (len(batch) + 1) * width > most_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
