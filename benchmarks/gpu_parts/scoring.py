"""Scoring speed, beside a plain transformers loop and one like lm-evaluation-harness's."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from benchmarks.flops import Work, least_seconds, separate_work
from benchmarks.gpu_parts.items import spread
from benchmarks.gpu_parts.measure import (
    Deadline,
    OutOfTimeError,
    peak_gb,
    reset_peak,
    seconds_of,
    synchronise,
)
from benchmarks.gpu_parts.models import counted
from benchmarks.gpu_parts.products import product_speed
from benchmarks.gpu_parts.work import Setting, encoded_prompts
from isogloss.inference.scoring import score
from isogloss.inference.work import scoring_work
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.tasks import Item
from isogloss.types import Format

REPEATS = 2  # after a first pass that compiles
# Of the peers, which need few items for a rate: about as many tokens for each.
PEER_PASSAGES = {
    ("plain", Format.LETTER): 18,
    ("plain", Format.CLOZE): 20,
    ("harness", Format.LETTER): 72,
    ("harness", Format.CLOZE): 20,
}
BATCHES = (16, 64)  # sequences per call that the peers try
QUICK_PASSAGES, QUICK_BATCHES = 2, (4,)


class Scored(NamedTuple):
    """A sequence of tokens, and where its choices start: several where they share a context."""

    tokens: tuple[int, ...]
    start: int
    choices: tuple[tuple[int, int], ...]  # item and choice
    last: tuple[int, ...]  # the last token of each choice, where the sequence ends before it


Loop = Callable[[LanguageModel, Sequence[EncodedPrompt], int, Deadline], list[list[float]]]


def measure(model: LanguageModel, setting: Setting, deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Items and tokens per second of each format, with shares of product speed, and the peers'."""
    yield {"paths": str(model.paths)}
    engine: dict[str, dict[str, Any]] = {}
    for kind in (Format.LETTER, Format.CLOZE):
        reset_peak(model.device)
        engine[kind] = _engine(model, setting, kind, deadline)
        engine[kind]["peak_gb"] = peak_gb(model.device)
        yield {str(kind): engine[kind]}
    for kind in (Format.LETTER, Format.CLOZE):
        ours = engine[kind]
        for name in LOOPS:
            ours[name] = _peer(model, setting, name, kind, deadline)
            if "items_per_second" in ours[name]:
                ours[f"times_{name}"] = ours["items_per_second"] / ours[name]["items_per_second"]


def _engine(
    model: LanguageModel, setting: Setting, kind: Format, deadline: Deadline
) -> dict[str, Any]:
    items = setting.items
    started = time.perf_counter()
    encoded = encoded_prompts(model, items, kind)
    encode_seconds = time.perf_counter() - started
    warm = spread(list(items), 2 if setting.quick else 48)
    warm_encoded = encoded_prompts(model, warm, kind)
    warm_up = seconds_of(model.device, lambda: _score(model, warm, warm_encoded, kind, deadline))
    seconds: list[float] = []
    repeats = 1 if setting.quick else REPEATS
    while len(seconds) < repeats and (not seconds or deadline.left > 3 * seconds[0]):
        seconds.append(
            seconds_of(model.device, lambda: _score(model, items, encoded, kind, deadline))
        )
    took = statistics.median(seconds)
    shared, separate = scoring_work(items, encoded), separate_work(encoded)
    speed = product_speed(setting.name, model.device)

    def share(work: Work) -> float:
        return least_seconds(work, counted(setting.name), speed.shapes) / took

    cube = speed.shapes._replace(body=speed.cube)
    return {
        "items": len(items),
        "seconds": seconds,
        "warm_up_seconds": warm_up,
        "encode_seconds": encode_seconds,
        "items_per_second": len(items) / took,
        "tokens": shared.tokens,
        "separate_tokens": separate.tokens,
        "mean_prompt_tokens": statistics.mean(entry.starts[0] for entry in encoded),
        "tokens_per_second": shared.tokens / took,
        "share": share(shared),
        "share_of_cube": least_seconds(shared, counted(setting.name), cube) / took,
        "share_as_separate": share(separate),
    }


def _score(
    model: LanguageModel,
    items: Sequence[Item],
    encoded: Sequence[EncodedPrompt],
    kind: Format,
    deadline: Deadline,
) -> list[list[float]]:
    """Log-likelihoods as `predict` takes them: letters with the head in float32."""
    scored = score(
        model,
        encoded,
        items,
        share=True,
        progress=lambda _: deadline.check(),
        float32_head=kind == Format.LETTER,
    )
    return [list(entry.loglikelihoods) for entry in scored]


def _peer(
    model: LanguageModel, setting: Setting, name: str, kind: Format, deadline: Deadline
) -> dict[str, Any]:
    """Items per second of a peer with its best batch, on fewer items, and its differences to ours.

    Each batch size runs twice: the first pass meets its shapes for the first time.
    """
    passages = QUICK_PASSAGES if setting.quick else PEER_PASSAGES[name, kind]
    chosen = spread(list(setting.items), passages)
    encoded = encoded_prompts(model, chosen, kind)
    own = _score(model, chosen, encoded, kind, deadline)
    reset_peak(model.device)
    tried: dict[str, Any] = {}
    scores: list[list[float]] = []
    for batch in QUICK_BATCHES if setting.quick else BATCHES:
        rates: list[float] = []
        tried[str(batch)] = rates
        try:
            for _ in range(1 if setting.quick else 2):
                started = time.perf_counter()
                scores = LOOPS[name](model, encoded, batch, deadline)
                synchronise(model.device)
                rates.append(len(chosen) / (time.perf_counter() - started))
        except (OutOfTimeError, torch.OutOfMemoryError) as error:
            tried[f"{batch} ended by"] = type(error).__name__
            break
    every = [rate for rates in tried.values() if isinstance(rates, list) for rate in rates]
    result = {"items": len(chosen), "items_per_second_by_batch": tried}
    if every:
        result["items_per_second"] = max(every)
        result["largest_difference"] = max(
            abs(left - right)
            for ours, theirs in zip(own, scores, strict=True)
            for left, right in zip(ours, theirs, strict=True)
        )
    return {**result, "peak_gb": peak_gb(model.device)}


def _batches(rows: list[Scored], size: int) -> Iterator[list[Scored]]:
    rows = sorted(rows, key=lambda row: len(row.tokens), reverse=True)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _logits(model: LanguageModel, batch: Sequence[Scored]) -> torch.Tensor:
    """Logits [B, T, V] of a batch padded on the right, in one pass of the model."""
    width = max(len(row.tokens) for row in batch)
    tokens = torch.tensor([[*row.tokens, *[0] * (width - len(row.tokens))] for row in batch])
    mask = torch.tensor([[1] * len(row.tokens) + [0] * (width - len(row.tokens)) for row in batch])
    return model.network(
        input_ids=tokens.to(model.device), attention_mask=mask.to(model.device), use_cache=False
    ).logits


@torch.inference_mode()
def plain_loop(
    model: LanguageModel, encoded: Sequence[EncodedPrompt], size: int, deadline: Deadline
) -> list[list[float]]:
    """The loop that one writes first: every choice with its context, in padded batches.

    Sequences are sorted by length; the logits of a choice are cut from those of its sequence.
    """
    scores = [[0.0] * len(entry.sequences) for entry in encoded]
    for batch in _batches(_separate(encoded), size):
        deadline.check()
        logits_BTV = _logits(model, batch)
        for row, logits_TV in zip(batch, logits_BTV, strict=True):
            cut_TV = logits_TV[row.start - 1 : len(row.tokens)].float().log_softmax(-1)
            rest = torch.tensor(row.tokens[row.start :], device=model.device)
            common = cut_TV[: len(rest)].gather(-1, rest[:, None]).sum()
            for (item, choice), last in zip(row.choices, row.last, strict=True):
                scores[item][choice] = float(common + cut_TV[len(rest), last])
    return scores


@torch.inference_mode()
def harness_loop(
    model: LanguageModel, encoded: Sequence[EncodedPrompt], size: int, deadline: Deadline
) -> list[list[float]]:
    """What lm-evaluation-harness 0.4 does in `HFLM._loglikelihood_tokens`.

    Choices of one token after the same context share a pass, other choices have one each. Logits of
    all positions become log-probabilities; each choice's are cut out, and their argmax taken.
    """
    scores = [[0.0] * len(entry.sequences) for entry in encoded]
    for batch in _batches(_harness_rows(encoded), size):
        deadline.check()
        logprobs_BTV = torch.log_softmax(_logits(model, batch), dim=-1)
        for row, logprobs_TV in zip(batch, logprobs_BTV, strict=True):
            cut_TV = logprobs_TV[row.start - 1 : len(row.tokens)]
            greedy = cut_TV.argmax(dim=-1)
            for (item, choice), last in zip(row.choices, row.last, strict=True):
                ids = torch.tensor([*row.tokens[row.start :], last], device=model.device)
                bool((greedy == ids).all())
                scores[item][choice] = float(cut_TV.gather(-1, ids[:, None]).sum())
    return scores


LOOPS: dict[str, Loop] = {"plain": plain_loop, "harness": harness_loop}


def _separate(encoded: Sequence[EncodedPrompt]) -> list[Scored]:
    """Every choice with its context, without its last token."""
    return [
        Scored(sequence[:-1], start, ((index, choice),), (sequence[-1],))
        for index, entry in enumerate(encoded)
        for choice, (sequence, start) in enumerate(zip(*entry, strict=True))
    ]


def _harness_rows(encoded: Sequence[EncodedPrompt]) -> list[Scored]:
    """As `_separate`, but choices of one token after the same context are one sequence."""
    rows: dict[tuple[int, tuple[int, ...]], Scored] = {}
    single = []
    for row in _separate(encoded):
        key = (row.choices[0][0], row.tokens)
        if row.start < len(row.tokens):
            single.append(row)
        elif key in rows:
            choices, last = rows[key].choices + row.choices, rows[key].last + row.last
            rows[key] = rows[key]._replace(choices=choices, last=last)
        else:
            rows[key] = row
    return [*rows.values(), *single]
