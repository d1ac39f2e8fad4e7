"""What each model of a study needs: its shape, memory for scoring and training, and GPUs."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import psutil
from pydantic import TypeAdapter

from isogloss.compat.torch_build import torch_build
from isogloss.config.study import StudyModel
from isogloss.costs.memory import (
    GPU_COPIES,
    Memory,
    Precision,
    activation_bytes,
    layer_bytes,
    scoring_memory,
    training_memory,
    weight_bytes,
)
from isogloss.costs.operations import Lora, Work
from isogloss.costs.shape import ModelShape, assumed_shape
from isogloss.costs.time import ASSUMED_SHARE, H100, H200, Machine
from isogloss.formatting import aligned, in_hours, size
from isogloss.models.batch_limits import (
    CPU_TRAINING_TOKENS,
    GENERATION_TOKENS,
    GPU_TOKENS_PER_BATCH,
    cpu_tokens,
)
from isogloss.models.dtypes import (
    matrix_units,
    processor,
    product_dtype,
    resolve_dtype,
)
from isogloss.models.kept_facts import kept_fact
from isogloss.models.locate import ModelLocation, on_this_machine
from isogloss.models.shapes import published_shape, shape_of
from isogloss.threads import usable_cpus

CARDS = (H100, H200)
ESTIMATE = 1.3  # of activations: how far `models.memory` is on the safe side with Qwen3-8B
USABLE = 0.92  # of a card's memory: the rest is CUDA's, and fragments
MOST_CARDS = 64
DAYS_OF_SPEEDS = 7  # a measurement beside other programs is not kept for ever
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
    """One optimiser step: its work, the LoRA weights, and whether gradients are checkpointed.

    `row` is the tokens of an item, the least that a pass has.
    """

    work: Work
    lora: Lora
    row: float = 1.0
    checkpointing: bool = False


@dataclass(frozen=True)
class ModelNeeds:
    """What decides the memory of a model in a study, and its hours on the first of CARDS."""

    label: str
    facts: ModelFacts
    precision: Precision
    step: TrainingStep
    generates: bool
    hours: float


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
        dtype = product_dtype(dtype)
    return Precision(dtype)


@cache
def machine_here(dtype: str) -> Machine:
    """This machine, with speeds of a product and of a copy, measured in a tenth of a second.

    Those of a CPU are kept for some days, so that torch is not imported for them.
    """
    if torch_build().for_gpu:
        import torch

        if torch.cuda.is_available():
            memory = torch.cuda.mem_get_info()[1]
            speeds = _measured(dtype)
            return Machine("here", speeds.operations, speeds.bytes, memory, ASSUMED_SHARE)
    machine = {
        "processor": processor(),  # and its flags
        "processors": len(usable_cpus()),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "dtype": product_dtype(dtype),
        "torch": torch_build().version,
    }
    form = TypeAdapter(Speeds)
    speeds = kept_fact("speed", machine, form, lambda: _measured(dtype), DAYS_OF_SPEEDS)
    return Machine(
        "here",
        speeds.operations,
        speeds.bytes,
        psutil.virtual_memory().total,
        share=None,
        on_cpu=True,
        matrix_units=speeds.matrix_units and machine["dtype"] != "float32",
    )


@dataclass(frozen=True)
class Speeds:
    """Operations and bytes per second of a machine, and whether its CPU has matrix units."""

    operations: float
    bytes: float
    matrix_units: bool


def _measured(dtype: str) -> Speeds:
    import torch

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
    return Speeds(2 * 2048**3 / min(products), 2 * source.nbytes / min(copies), matrix_units())


def scoring_peak(
    shape: ModelShape, precision: Precision, machine: Machine, generates: bool = False
) -> Memory:
    """Peak memory of batches that half of the free memory holds, as `models.memory` has it.

    With a full cache where text is generated.
    """
    free = machine.memory - weight_bytes(shape, precision)
    per_token = max(layer_bytes(layer, shape.hidden, precision) for layer in shape.kinds)
    most = GPU_TOKENS_PER_BATCH
    if machine.on_cpu:
        most = cpu_tokens(
            bfloat16=precision != Precision.FLOAT32, matrix_units=machine.matrix_units
        )
    return scoring_memory(
        shape,
        precision,
        min(most, max(free / 2 / (GPU_COPIES * per_token), 1)),
        on_cpu=machine.on_cpu,
        cached_tokens=GENERATION_TOKENS if generates else 0,
    )


def training_peak(
    shape: ModelShape, precision: Precision, machine: Machine, step: TrainingStep
) -> Memory:
    """Peak memory of a step in passes that the machine's memory holds, as `models.memory` has it.

    They take a quarter of the memory on a CPU, and 70% of what the weights leave on a GPU.
    """
    per_token = ESTIMATE * activation_bytes(shape, precision, checkpointing=step.checkpointing)
    if machine.on_cpu:
        room, most = machine.memory / 4, CPU_TRAINING_TOKENS
    else:
        room, most = 0.7 * (machine.memory - weight_bytes(shape, precision)), GPU_TOKENS_PER_BATCH
    tokens = min(step.work.tokens, most, max(room / per_token, step.row))
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


def cards_needed(
    card: Machine, shape: ModelShape, precision: Precision, step: TrainingStep, generates: bool
) -> Machine | None:
    """The fewest GPUs of a kind that can score and train, as one machine; None: too many.

    `device_map=auto` gives each GPU its share of the layers, with their activations.
    """

    def peak(pooled: Machine) -> float:
        return max(
            scoring_peak(shape, precision, pooled, generates).total,
            training_peak(shape, precision, pooled, step).total,
        )

    cards = fewest_cards(card, peak)
    return pool(card, cards) if cards else None


def fewest_cards(card: Machine, peak: Callable[[Machine], float]) -> int | None:
    """The fewest GPUs of a kind that hold a peak in bytes, which depends on them, or None."""
    for cards in range(1, MOST_CARDS + 1):
        pooled = pool(card, cards)
        if peak(pooled) <= USABLE * pooled.memory:
            return cards
    return None


def pool(card: Machine, cards: int) -> Machine:
    """So many GPUs as one machine, which is no faster."""
    return replace(card, name=str(cards), memory=cards * card.memory)


def needs_table(models: Sequence[ModelNeeds]) -> str:
    """One line per model: parameters, weights, GPUs that are enough; peaks and hours on the first.

    GPUs are those of CARDS.
    """
    kinds = [f"{card.name} ({card.memory / 1e9:.0f} GB)" for card in CARDS]
    rows = [("model", "parameters", "active", "weights", *kinds, "scoring", "training", "hours")]
    for model in models:
        shape, precision = model.facts.shape, model.precision
        if shape is None:
            rows.append((model.label, *["unknown"] * (len(rows[0]) - 1)))
            continue
        pooled = [
            cards_needed(card, shape, precision, model.step, model.generates) for card in CARDS
        ]
        on = pooled[0] or CARDS[0]
        rows.append(
            (
                model.label + (" (shape assumed)" if model.facts.assumed else ""),
                f"{shape.parameters / 1e9:.1f}B",
                f"{shape.active_parameters / 1e9:.1f}B",
                f"{size(round(weight_bytes(shape, precision)))} ({precision})",
                *(cards.name if cards else f"more than {MOST_CARDS}" for cards in pooled),
                size(round(scoring_peak(shape, precision, on, model.generates).total)),
                size(round(training_peak(shape, precision, on, model.step).total)),
                in_hours(model.hours),
            )
        )
    return aligned(rows)
