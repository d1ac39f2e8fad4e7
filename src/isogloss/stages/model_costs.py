"""What each model of a study needs: its shape, memory for scoring and training, and GPUs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import psutil
import torch

from isogloss.config.study import StudyModel
from isogloss.costs.memory import (
    Memory,
    Precision,
    activation_bytes,
    scoring_memory,
    training_memory,
    weight_bytes,
)
from isogloss.costs.operations import Lora, Work
from isogloss.costs.shape import ModelShape, assumed_shape
from isogloss.costs.time import ASSUMED_SHARE, H100, H200, Machine
from isogloss.formatting import aligned, size
from isogloss.inference.generation import TOKENS_PER_BATCH
from isogloss.models.dtypes import resolve_dtype
from isogloss.models.locate import ModelLocation, on_this_machine
from isogloss.models.memory import (
    CPU_TOKENS_PER_BATCH,
    CPU_TRAINING_TOKENS,
    GPU_TOKENS_PER_BATCH,
)
from isogloss.models.shapes import published_shape, shape_of

CARDS = (H100, H200)
USABLE = 0.92  # of a card's memory: the rest is CUDA's, and fragments
MOST_CARDS = 64
COPIED_FLOATS = 2**24  # of 64 MB, more than a cache holds
# What transformers raises for configurations that it cannot build a network from.
UNREADABLE = (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError)


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model without loading it; `shape` is None if nothing is.

    `assumed` is whether the shape is a usual one for its number of parameters.
    """

    location: ModelLocation | None
    shape: ModelShape | None
    assumed: bool = False


@dataclass(frozen=True)
class TrainingStep:
    """One optimiser step: its work, the LoRA weights, and whether gradients are checkpointed."""

    work: Work
    lora: Lora
    checkpointing: bool = False


def model_facts(model: StudyModel) -> ModelFacts:
    """The shape of a model from its config.json, the published one, or the study file."""
    location = on_this_machine(model.name)
    try:
        shape = shape_of(location) if location else published_shape(model.name)
    except UNREADABLE:
        shape = None
    if shape is not None and shape.layers:
        return ModelFacts(location, shape)
    if model.parameters is None:
        return ModelFacts(location, None)
    return ModelFacts(location, assumed_shape(model.parameters, model.active_parameters), True)


def precision_of(dtype: str) -> Precision:
    """The precision of a parameter `dtype`; auto is what this machine resolves it to."""
    if dtype not in set(Precision):
        dtype = str(resolve_dtype(dtype)).removeprefix("torch.")
    return Precision(dtype)


@cache
def machine_here(dtype: str) -> Machine:
    """This machine, with speeds of a product and of a copy, measured in a tenth of a second."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    left = torch.ones(2048, 2048, dtype=resolve_dtype(dtype), device=device)
    source = torch.ones(COPIED_FLOATS, device=device)
    target = torch.empty_like(source)
    products, copies = [], []
    for _ in range(4):
        started = time.perf_counter()
        (left @ left).sum().item()
        products.append(time.perf_counter() - started)
        started = time.perf_counter()
        target.copy_(source)
        target[-1].item()
        copies.append(time.perf_counter() - started)
    memory = torch.cuda.mem_get_info()[1] if gpu else psutil.virtual_memory().total
    return Machine(
        "here",
        operations_per_second=2 * 2048**3 / min(products),
        bytes_per_second=2 * source.nbytes / min(copies),
        memory=memory,
        share=ASSUMED_SHARE if gpu else None,
        on_cpu=not gpu,
    )


def scoring_peak(
    shape: ModelShape, precision: Precision, machine: Machine, generates: bool = False
) -> Memory:
    """Peak memory of full batches on a machine, with a full cache where text is generated."""
    return scoring_memory(
        shape,
        precision,
        CPU_TOKENS_PER_BATCH if machine.on_cpu else GPU_TOKENS_PER_BATCH,
        on_cpu=machine.on_cpu,
        cached_tokens=TOKENS_PER_BATCH if generates else 0,
    )


def training_peak(
    shape: ModelShape, precision: Precision, machine: Machine, step: TrainingStep
) -> Memory:
    """Peak memory of a step in passes of what a quarter of the machine's memory holds."""
    per_token = activation_bytes(shape, Precision.FLOAT32, checkpointing=step.checkpointing)
    most = CPU_TRAINING_TOKENS if machine.on_cpu else GPU_TOKENS_PER_BATCH
    tokens = min(step.work.tokens, most, max(machine.memory / 4 / per_token, 1))
    return training_memory(
        shape,
        precision,
        tokens,
        step.work.positions * tokens / max(step.work.tokens, 1),
        step.lora,
        keys=step.work.keys,
        on_cpu=machine.on_cpu,
        checkpointing=step.checkpointing,
    )


def cards_needed(card: Machine, peaks: Sequence[Memory]) -> int | None:
    """GPUs of this kind that hold the largest peak, with layers spread over them; None: too many.

    `device_map=auto` gives each GPU its share of the layers, with their activations.
    """
    largest = max(peak.total for peak in peaks)
    cards = -(-largest // (USABLE * card.memory))
    return int(cards) if cards <= MOST_CARDS else None


def needs_table(
    models: Mapping[str, tuple[str, ModelFacts, Precision, TrainingStep, bool]],
) -> str:
    """One line per model: parameters, weights, peaks on an H100, and the GPUs that are enough.

    `models` has for each name its label, facts, precision, training step, and whether it generates.
    """
    kinds = [f"{card.name} ({card.memory / 1e9:.0f} GB)" for card in CARDS]
    rows = [("model", "parameters", "active", "weights", "scoring", "training", *kinds)]
    for label, facts, precision, step, generates in models.values():
        if facts.shape is None:
            rows.append((label, *["unknown"] * (len(rows[0]) - 1)))
            continue
        shape = facts.shape
        peaks = {
            card: (
                scoring_peak(shape, precision, card, generates),
                training_peak(shape, precision, card, step),
            )
            for card in CARDS
        }
        needed = [cards_needed(card, peaks[card]) for card in CARDS]
        scoring, training = peaks[CARDS[0]]
        rows.append(
            (
                label + (" (shape assumed)" if facts.assumed else ""),
                f"{shape.parameters / 1e9:.1f}B",
                f"{shape.active_parameters / 1e9:.1f}B",
                f"{size(round(weight_bytes(shape, precision)))} ({precision})",
                size(round(scoring.total)),
                size(round(training.total)),
                *(str(cards or f"more than {MOST_CARDS}") for cards in needed),
            )
        )
    return aligned(rows)
