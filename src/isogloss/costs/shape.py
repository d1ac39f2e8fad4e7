"""Shape: the sizes of a model that decide its cost. `models.shapes` reads it from a config.json."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property


class MatrixKind(StrEnum):
    """What a matrix of a layer belongs to."""

    ATTENTION = "attention"
    MLP = "mlp"
    EXPERT = "expert"
    ROUTER = "router"


@dataclass(frozen=True)
class Matrix:
    """A weight that tokens are multiplied by: `copies` of it, of which each token uses `used`.

    Where `own_token` is true, its output feeds only the output of that token. The last layer then
    needs it only for tokens whose output counts.
    """

    kind: MatrixKind
    inputs: int
    outputs: int
    copies: int = 1
    used: int = 1
    own_token: bool = False

    @property
    def weights(self) -> int:
        """The number of weights, of all copies."""
        return self.copies * self.inputs * self.outputs

    @property
    def operations(self) -> int:
        """Operations of one token, forward: a multiplication and an addition per weight."""
        return 2 * self.used * self.inputs * self.outputs

    def lora_weights(self, rank: int) -> int:
        """The weights of its LoRA, of all copies."""
        return self.copies * rank * (self.inputs + self.outputs)


@dataclass(frozen=True)
class Layer:
    """One layer. `other` counts parameters outside matrices: norms, biases.

    `normed` is the number of values per token that norms take in. A token has `heads` queries and
    keys of `key_width`, values of `value_width`, and leaves `cached` values in the key-value cache.
    `window` is the number of tokens that it attends to at most; None if there is no limit. Layers
    without attention have no heads.
    """

    matrices: tuple[Matrix, ...]
    other: int = 0
    normed: int = 0
    heads: int = 0
    key_heads: int = 0
    key_width: int = 0
    value_width: int = 0
    cached: int = 0
    window: int | None = None

    @cached_property
    def operations(self) -> int:
        """Operations of one token with all matrices, forward."""
        return sum(matrix.operations for matrix in self.matrices)


@dataclass(frozen=True)
class ModelShape:
    """A model: its layers, the width `hidden` of its embeddings, and its vocabulary.

    With `tied` the head is the embedding. `other` counts parameters outside layers, embeddings and
    head: the last norm, positions, a vision tower.
    """

    layers: tuple[Layer, ...]
    hidden: int
    vocabulary: int
    tied: bool
    other: int = 0

    @cached_property
    def kinds(self) -> tuple[Layer, ...]:
        """Its layers that differ: a model repeats few of them many times."""
        return tuple(dict.fromkeys(self.layers))

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """The matrices of all layers."""
        return tuple(matrix for layer in self.layers for matrix in layer.matrices)

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and of the head."""
        return self.hidden * self.vocabulary

    @cached_property
    def parameters(self) -> int:
        """The number of parameters; a tied head counts once."""
        in_layers = sum(matrix.weights for matrix in self.matrices)
        others = self.other + sum(layer.other for layer in self.layers)
        return in_layers + others + self.embedding * (1 if self.tied else 2)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses: of the experts, those it is sent to."""
        unused = sum(
            (matrix.copies - matrix.used) * matrix.inputs * matrix.outputs
            for matrix in self.matrices
        )
        return self.parameters - unused

    def lora_weights(self, rank: int, experts: bool = False) -> int:
        """The weights of a LoRA adapter of all linear layers but the head, and of experts."""
        kinds = {MatrixKind.ATTENTION, MatrixKind.MLP} | ({MatrixKind.EXPERT} if experts else set())
        return sum(matrix.lora_weights(rank) for matrix in self.matrices if matrix.kind in kinds)


ASPECT = 128  # width of a usual model in numbers of its layers: Kaplan et al. 2020, figure 5
VOCABULARY, EMBEDDING = 128_000, 1 / 16  # as in Llama 3.1 8B, and at most this part of a model
HEAD_WIDTH = 128


def assumed_shape(parameters: float, active: float | None = None) -> ModelShape:
    """A usual shape for a number of parameters, where nothing else is known of a model.

    A layer has 12 weights per squared width (Kaplan et al. 2020, arXiv:2001.08361, section 2.1), a
    quarter of its heads have keys, and the width is ASPECT times the number of layers. Parameters
    beyond the active ones are experts that a token does not use.
    """
    used = active or parameters
    n_layers = max(round((used / 12 / ASPECT**2) ** (1 / 3)), 1)
    vocabulary = max(min(VOCABULARY, round(EMBEDDING * used / (ASPECT * n_layers))), 1)
    # Round widths would move the number of parameters by percents: the MLP takes what is left.
    hidden = ASPECT * n_layers
    attention = (
        Matrix(MatrixKind.ATTENTION, hidden, hidden, own_token=True),
        Matrix(MatrixKind.ATTENTION, hidden, hidden // 4),
        Matrix(MatrixKind.ATTENTION, hidden, hidden // 4),
        Matrix(MatrixKind.ATTENTION, hidden, hidden, own_token=True),
    )
    left = used - 2 * hidden * vocabulary - n_layers * sum(matrix.weights for matrix in attention)
    inner = max(round(left / n_layers / (3 * hidden)), 1)
    mlp = tuple(
        Matrix(MatrixKind.MLP, *sides, own_token=True)
        for sides in ((hidden, inner), (hidden, inner), (inner, hidden))
    )
    heads = max(hidden // HEAD_WIDTH, 1)
    layer = Layer(
        (*attention, *mlp),
        normed=2 * hidden,
        heads=heads,
        key_heads=max(heads // 4, 1),
        key_width=HEAD_WIDTH,
        value_width=HEAD_WIDTH,
        cached=hidden // 2,
    )
    shape = ModelShape((layer,) * n_layers, hidden, vocabulary, tied=False)
    unused = round((parameters - used) / n_layers / hidden)
    if unused < 1:
        return shape
    experts = Matrix(MatrixKind.EXPERT, hidden, unused, used=0)
    layer = replace(layer, matrices=(*layer.matrices, experts))
    return replace(shape, layers=(layer,) * n_layers)
