"""Time in seconds, from operations, bytes and the speed of a machine."""

import math
from dataclasses import dataclass

from isogloss.costs.memory import (
    COMPILED_FROM,
    Precision,
    activation_bytes,
    cache_bytes,
    weight_bytes,
)
from isogloss.costs.operations import (
    Lora,
    Operations,
    Work,
    forward_operations,
    training_operations,
)
from isogloss.costs.shape import MatrixKind, ModelShape

# Of product speed, on GPUs: 38% to 55% were measured, and 74% in passes of compiled layers, of
# which no whole run has been measured (docs/LOG.md).
ASSUMED_SHARE, COMPILED_SHARE = 0.5, 0.6
# What norms, rotary positions, activations, copies and casts read and write, in numbers of the
# activations that a layer would keep. Fitted to benchmarks/results*.json of two processors.
FORWARD_TRAFFIC, TRAINING_TRAFFIC = 5.3, 18.0
CPU_BYTES_PER_SECOND = 20e9  # of two cores: reads of weights in decoding, and copies
# Besides reads, a layer of a decoding step has some forty small operations. Fitted to two machines.
CPU_LAYER_SECONDS = 3e-3
# Of the speed of large products, what those of a training step reach with matrix units. With a
# hidden size of 640 a fifth: most products of a thousand rows run on one core, LoRA's reach a
# tenth, and each new size is compiled. Products of 850 rows and 2,560 columns reach .81 to .91.
FULL_SPEED_SIZE, MOST_SHARE = 3200, 0.85  # hidden size, and share of product speed


@dataclass(frozen=True)
class Machine:
    """Operations per second of matrix products, of layers and of the head, and bytes per second.

    `share` is the share of product speed that the whole computation reaches, `compiled_share` that
    of passes without gradients through compiled layers. With None it follows from
    `bytes_per_second`: products and memory traffic take turns, as they do on a CPU. `matrix_units`
    tells whether its products are in bfloat16 by a CPU's matrix units.
    """

    name: str
    operations_per_second: float
    bytes_per_second: float
    memory: float
    share: float | None = ASSUMED_SHARE
    compiled_share: float = COMPILED_SHARE
    head_operations_per_second: float | None = None
    on_cpu: bool = False
    matrix_units: bool = False

    def product_seconds(self, operations: Operations) -> float:
        """Time of the products alone."""
        head = self.head_operations_per_second or self.operations_per_second
        return operations.body / self.operations_per_second + operations.head / head


# Products and copies as measured on an H200 (docs/LOG.md, 27 November 2026). An H100 has the same
# multiprocessors, and memory of 3.35 instead of 4.8 TB/s by NVIDIA's data sheets.
H200 = Machine("H200", 790e12, 4.26e12, 141e9)
H100 = Machine("H100", 790e12, 4.26e12 * 3.35 / 4.8, 80e9)


def scoring_seconds(
    shape: ModelShape, work: Work, machine: Machine, compiled: bool | None = None
) -> float:
    """Time of scoring, or of the prompts of generation.

    `compiled` is whether a GPU's layers are; None: as loading decides, if one GPU holds the model.
    """
    if compiled is None:
        fits = weight_bytes(shape, Precision.BFLOAT16) < machine.memory
        compiled = fits and shape.parameters >= COMPILED_FROM
    products = machine.product_seconds(forward_operations(shape, work))
    if machine.share is not None:
        return products / (machine.compiled_share if compiled else machine.share)
    traffic = FORWARD_TRAFFIC * work.tokens * activation_bytes(shape, Precision.FLOAT32)
    return products + traffic / machine.bytes_per_second


def training_seconds(
    shape: ModelShape,
    work: Work,
    machine: Machine,
    lora: Lora,
    checkpointing: bool = False,
) -> float:
    """Time of training steps with this work in all, forward and backward."""
    products = machine.product_seconds(
        training_operations(shape, work, lora, checkpointing=checkpointing)
    )
    if machine.share is not None:
        return products / machine.share
    if machine.matrix_units:
        products /= min(shape.hidden / FULL_SPEED_SIZE, MOST_SHARE)
    traffic = TRAINING_TRAFFIC * work.tokens * activation_bytes(shape, Precision.FLOAT32)
    return products + traffic / machine.bytes_per_second


def generation_seconds(
    shape: ModelShape,
    prompts: Work,
    rows: float,
    steps: float,
    machine: Machine,
    precision: Precision,
) -> float:
    """Time of generating `steps` tokens in each of `rows` texts of a batch, prompts included.

    A step reads all weights that the batch uses and the cache of every row (the bound of Pope et
    al. 2022, arXiv:2211.05102, section 2.1), and computes the products of one token of each row.
    """
    length = prompts.tokens / rows if rows else 0.0
    read = step_bytes(shape, rows, length + steps / 2, precision)
    step = Work(rows, rows, keys=length + steps / 2)
    decoding = scoring_seconds(shape, step, machine) + read / machine.bytes_per_second
    if machine.on_cpu:
        decoding += CPU_LAYER_SECONDS * len(shape.layers)
    return scoring_seconds(shape, prompts, machine) + steps * decoding


def step_bytes(shape: ModelShape, rows: float, length: float, precision: Precision) -> float:
    """Bytes that the next token of each of `rows` texts of a `length` must read.

    Of experts, those that the rows use if each picks its own at random.
    """
    experts = [matrix for matrix in shape.matrices if matrix.kind == MatrixKind.EXPERT]
    all_experts = sum(matrix.weights for matrix in experts)
    used = sum(
        matrix.weights * (1 - math.pow(1 - matrix.used / matrix.copies, rows)) for matrix in experts
    )
    unused = precision.width * (all_experts - used)
    embedding = 0 if shape.tied else precision.width * shape.embedding  # rows of it alone
    weights = weight_bytes(shape, precision) - unused - embedding
    return weights + rows * length * cache_bytes(shape, precision)
