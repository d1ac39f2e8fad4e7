"""Correctness: scores and gradients beside the model's own, one whole sequence at a time."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import get_peft_model

from benchmarks.gpu_parts.items import spread
from benchmarks.gpu_parts.measure import Deadline
from benchmarks.gpu_parts.models import cast_weights, language_model
from benchmarks.gpu_parts.work import Setting, encoded_prompts
from isogloss.inference.scoring import score
from isogloss.models.language_model import LanguageModel
from isogloss.models.memory import training_token_budget
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.tokenisation import EncodedPrompt
from isogloss.training.batches import training_rows
from isogloss.training.loop import _accumulate_gradients, recipe_lora_config
from isogloss.training.recipe import Recipe
from isogloss.types import Format

PASSAGES = {Format.LETTER: 20, Format.CLOZE: 6}
GRADIENT_PASSAGES = 4
SEQUENCES_PER_PASS = 4  # of the plain pass with gradients
Scores = list[list[float]]


def measure(model: LanguageModel, setting: Setting, deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Differences of log-likelihoods and gradients, in bfloat16 and float32.

    `exact` are the model's own in float32. Weights are the same numbers in both dtypes; afterwards
    they are bfloat16 again.
    """
    kinds = (Format.LETTER, Format.CLOZE)
    data = {}
    for kind in kinds:
        chosen = spread(list(setting.items), 2 if setting.quick else PASSAGES[kind])
        data[kind] = (chosen, encoded_prompts(model, chosen, kind))
    paths = {str(model.dtype): str(model.paths)}
    rounded = {kind: _scores(model, *data[kind], kind, deadline) for kind in kinds}
    rounded_gradients = _gradients(model, setting)
    try:
        cast_weights(model.network, torch.float32)
        model = language_model(setting.name, model.network, model.device, model.tokenizer)
        paths[str(model.dtype)] = str(model.paths)
        exact = {kind: _scores(model, *data[kind], kind, deadline) for kind in kinds}
        gradients = _gradients(model, setting)
    finally:
        cast_weights(model.network, torch.bfloat16)
    yield {
        "items": {str(kind): len(data[kind][0]) for kind in kinds},
        "paths": paths,
        **{str(kind): _compared(exact[kind], rounded[kind]) for kind in kinds},
        "training": {
            "float32": _gradient_differences(gradients["engine"], gradients["own"]),
            "bfloat16": _gradient_differences(rounded_gradients["engine"], gradients["own"]),
            "bfloat16 own": _gradient_differences(rounded_gradients["own"], gradients["own"]),
        },
    }


def _scores(
    model: LanguageModel,
    items: Sequence[Any],
    encoded: Sequence[EncodedPrompt],
    kind: Format,
    deadline: Deadline,
) -> dict[str, Scores]:
    """Log-likelihoods by the engine and by the model's own passes."""
    scored = score(model, encoded, items, share=True, float32_head=kind == Format.LETTER)
    return {
        "engine": [list(entry.loglikelihoods) for entry in scored],
        "own": own_scores(model, encoded, deadline),
    }


@torch.inference_mode()
def own_scores(
    model: LanguageModel, encoded: Sequence[EncodedPrompt], deadline: Deadline
) -> Scores:
    """Log-likelihoods from the logits of whole sequences, one in a pass, by the model's own code.

    Equal sequences before the last token are computed once.
    """
    scores: Scores = []
    for entry in encoded:
        deadline.check()
        passes: dict[tuple[int, ...], torch.Tensor] = {}
        scores.append([])
        for sequence, start in zip(*entry, strict=True):
            if sequence[:-1] not in passes:
                ids = torch.tensor([sequence[:-1]], device=model.device)
                logits_TV = model.network(input_ids=ids, use_cache=False).logits[0, start - 1 :]
                passes[sequence[:-1]] = logits_TV.float().log_softmax(-1)
            targets = torch.tensor(sequence[start:], device=model.device)[:, None]
            scores[-1].append(float(passes[sequence[:-1]].gather(-1, targets).double().sum()))
    return scores


def _compared(exact: dict[str, Scores], rounded: dict[str, Scores]) -> dict[str, Any]:
    own = exact["own"]
    return {
        # How much scores differ between items at all: differences are small against this.
        "standard_deviation_over_items": statistics.pstdev(entry[0] for entry in own),
        "float32": _differences(exact["engine"], own, own),
        "bfloat16": _differences(rounded["engine"], rounded["own"], own),
        "bfloat16 from exact": _differences(rounded["engine"], own, own),
        "bfloat16 own from exact": _differences(rounded["own"], own, own),
    }


def _differences(scores: Scores, reference: Scores, exact: Scores) -> dict[str, Any]:
    """Differences in nats, and the exact margins of items whose choice differs."""
    errors = [
        left - right
        for ours, theirs in zip(scores, reference, strict=True)
        for left, right in zip(ours, theirs, strict=True)
    ]
    margins = [
        abs(own[ours.index(max(ours))] - own[theirs.index(max(theirs))])
        for ours, theirs, own in zip(scores, reference, exact, strict=True)
        if ours.index(max(ours)) != theirs.index(max(theirs))
    ]
    return {
        "largest": max(map(abs, errors)),
        "rms": statistics.fmean(error**2 for error in errors) ** 0.5,
        "other_choices": len(margins),
        "their_largest_margin": max(margins, default=None),
    }


Gradients = tuple[float, list[torch.Tensor]]


def _gradients(model: LanguageModel, setting: Setting) -> dict[str, Gradients]:
    """Loss of one step and its gradients of LoRA weights, by the engine and by a padded pass."""
    # The gold options as answers: several tokens each, and prompts that share their passage.
    items = spread(list(setting.items), 2 if setting.quick else GRADIENT_PASSAGES)
    protocol = Protocol(Format.CLOZE)
    rows = training_rows(model, items, protocol)
    encoded = encoded_prompts(model, items, Format.CLOZE)
    config = recipe_lora_config(model, Recipe())
    torch.manual_seed(0)
    adapter = get_peft_model(model.module, config)
    try:
        for name, weight in adapter.named_parameters():
            if "lora_B" in name:  # zeros at first, with which the gradients of A are zeros
                torch.nn.init.normal_(weight, std=0.01)
        weights = [weight for weight in adapter.parameters() if weight.requires_grad]
        adapter.train()
        loss = _accumulate_gradients(model, rows, training_token_budget(model))
        engine = (loss, _taken(weights))
        sequences = [
            (entry.sequences[item.answer], entry.starts[item.answer])
            for item, entry in zip(items, encoded, strict=True)
        ]
        own = (_own_step(model, sequences), _taken(weights))
    finally:
        adapter.eval()
        adapter.unload()
    return {"engine": engine, "own": own}


def _taken(weights: Sequence[torch.nn.Parameter]) -> list[torch.Tensor]:
    """The gradients of the weights, which then have none."""
    taken = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    for weight in weights:
        weight.grad = None
    return [gradient.float().cpu() for gradient in taken]


def _own_step(model: LanguageModel, sequences: list[tuple[tuple[int, ...], int]]) -> float:
    """Add the gradients of the mean loss of answer tokens, by padded passes; return the loss."""
    answer_tokens = sum(len(tokens) - start for tokens, start in sequences)
    total = 0.0
    for first in range(0, len(sequences), SEQUENCES_PER_PASS):
        part = sequences[first : first + SEQUENCES_PER_PASS]
        width = max(len(tokens) for tokens, _ in part)
        ids = torch.tensor([[*tokens, *[0] * (width - len(tokens))] for tokens, _ in part])
        mask = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens, _ in part])
        labels = torch.full_like(ids, -100)
        for row, (tokens, start) in enumerate(part):
            labels[row, start : len(tokens)] = torch.tensor(tokens[start:])
        with model.autocast():
            logits_BTV = model.network(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                use_cache=False,
            ).logits
        loss = torch.nn.functional.cross_entropy(
            logits_BTV[:, :-1].flatten(0, 1).float(),
            labels[:, 1:].flatten().to(model.device),
            reduction="sum",
        )
        torch.autograd.backward(loss / answer_tokens)
        total += loss.item() / answer_tokens
    return total


def _gradient_differences(computed: Gradients, reference: Gradients) -> dict[str, float]:
    """Differences relative to the norm of the reference, over all weights and for the worst."""
    pairs = list(zip(computed[1], reference[1], strict=True))
    norms = [(float((left - right).norm()), float(right.norm())) for left, right in pairs]
    whole = sum(norm**2 for _, norm in norms) ** 0.5
    return {
        "loss": computed[0],
        "loss_difference": abs(computed[0] - reference[0]),
        "relative": sum(error**2 for error, _ in norms) ** 0.5 / whole,
        "relative_of_worst_weight": max(error / norm for error, norm in norms if norm > 0),
    }
