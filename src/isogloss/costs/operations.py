"""Operations: multiplications and additions of forward and backward passes, from shape and work.

The product of one token with a matrix of I inputs and O outputs takes 2·I·O operations (Kaplan et
al. 2020, arXiv:2001.08361, section 2.1), and a query with its keys and values 2·H·(K+V) for each
token attended to, H heads with keys of width K and values of width V (Chowdhery et al. 2022,
arXiv:2204.02311, appendix B). Norms, activations and embedding look-ups are not counted.
"""

from collections.abc import Iterable
from typing import NamedTuple

from isogloss.costs.shape import Layer, Matrix, MatrixKind, ModelShape


class Work(NamedTuple):
    """Tokens that pass through the layers, and positions at which the head is applied.

    `last` is the number of tokens whose output of the last layer is needed (None: all); for the
    others that layer computes keys and values only. `keys` is the mean number of tokens that a
    token attends to, itself included.
    """

    tokens: float
    positions: float
    last: float | None = None
    keys: float = 0.0

    def times(self, factor: float) -> "Work":
        """So many times this work."""
        last = None if self.last is None else factor * self.last
        return Work(factor * self.tokens, factor * self.positions, last, self.keys)


class Operations(NamedTuple):
    """Operations in the layers, and in the head."""

    body: float
    head: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.body + self.head


class Lora(NamedTuple):
    """Low-rank weights that are trained, of all linear layers but the head, and of experts."""

    rank: int
    experts: bool = False

    def applies_to(self, matrix: Matrix) -> bool:
        """Whether a matrix has them."""
        if matrix.kind == MatrixKind.EXPERT:
            return self.experts
        return matrix.kind in {MatrixKind.ATTENTION, MatrixKind.MLP}


def forward_operations(shape: ModelShape, work: Work, attention: bool = True) -> Operations:
    """Operations of scoring, or of the prompts of generation; without `attention` linear layers."""
    *others, final = shape.layers
    needed = work.tokens if work.last is None else work.last
    spared = sum(matrix.operations for matrix in final.matrices if matrix.own_token)
    body = work.tokens * sum(layer.operations for layer in shape.layers)
    body -= (work.tokens - needed) * spared
    if attention:
        attended = sum(attention_operations(layer, work.keys) for layer in others)
        body += work.tokens * attended + needed * attention_operations(final, work.keys)
    return Operations(body, work.positions * 2 * shape.embedding)


def training_operations(
    shape: ModelShape,
    work: Work,
    lora: Lora | None,
    *,
    checkpointing: bool = False,
    attention: bool = True,
) -> Operations:
    """Operations of forward and backward passes that train LoRA weights.

    The backward pass has as many products as the forward pass again: the gradients of activations,
    since frozen weights have none of their own. LoRA weights have three: forward, and both
    gradients. Attention has two in the forward pass and four in the backward pass. With
    `checkpointing` the forward pass of layers is computed twice.
    """
    forward = forward_operations(shape, work, attention=False)
    body = (3 if checkpointing else 2) * forward.body
    if attention:
        attended = forward_operations(shape, work).body - forward.body
        body += (4 if checkpointing else 3) * attended
    if lora is not None:
        adapted = sum(
            2 * matrix.used * lora.rank * (matrix.inputs + matrix.outputs)
            for matrix in shape.matrices
            if lora.applies_to(matrix)
        )
        body += (4 if checkpointing else 3) * work.tokens * adapted
    return Operations(body, 2 * forward.head)


def attention_operations(layer: Layer, keys: float) -> float:
    """Operations of one token's attention to `keys` tokens, or to as many as the window has."""
    attended = keys if layer.window is None else min(keys, layer.window)
    return 2 * layer.heads * (layer.key_width + layer.value_width) * attended


def mean_keys(lengths: Iterable[int]) -> float:
    """The mean number of tokens attended to in sequences of these lengths, for `Work.keys`."""
    pairs = tokens = 0
    for length in lengths:
        pairs += length * (length + 1) // 2
        tokens += length
    return pairs / tokens if tokens else 0.0
