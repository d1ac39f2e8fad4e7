"""What isogloss uses of a causal language model and of its tokenizer.

transformers' models and tokenizers have these interfaces; transformers' own types leave most of
them out. Shapes: B rows, T tokens, D hidden size, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # takes seconds, which commands without a model do not need
    import torch


class Encodings(Protocol):
    """Token ids of several texts."""

    input_ids: list[list[int]]


class AddedToken(Protocol):
    """A token that was added to a vocabulary, with its text."""

    special: bool
    content: str


class Tokenizer(Protocol):
    """A tokenizer with its special tokens and, in some models, a chat template."""

    bos_token_id: int | None
    eos_token_id: int | None
    model_max_length: int
    chat_template: str | dict[str, str] | None

    def __len__(self) -> int: ...

    def __hash__(self) -> int: ...

    def __call__(self, text: list[str], *, add_special_tokens: bool = True) -> Encodings:
        """Token ids of several texts."""

    def get_vocab(self) -> dict[str, int]:
        """Token ids by token, added tokens included."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of a sequence of tokens."""

    def batch_decode(
        self, sequences: Sequence[Sequence[int]], *, skip_special_tokens: bool = False
    ) -> list[str]:
        """The text of each sequence of tokens."""

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        """Added tokens by id."""

    def get_chat_template(self) -> str:
        """The chat template; ValueError if there is none, or several and none is the default."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, object]],
        *,
        chat_template: str,
        tokenize: bool,
        add_generation_prompt: bool,
        **switches: bool | int | str,
    ) -> str:
        """The conversation as text; templates ignore a switch that they do not know."""


class TextConfig(Protocol):
    """Sizes of the text part of a model."""

    hidden_size: int
    num_hidden_layers: int
    vocab_size: int


class ModelConfig(Protocol):
    """The configuration of a model."""

    model_type: str

    def get_text_config(self) -> TextConfig:
        """The configuration of the text part; that of a text model itself."""

    def to_dict(self) -> dict[str, object]:
        """All settings, as in the file `config.json`."""


class GenerationConfig(Protocol):
    """What a model states about generation."""

    eos_token_id: int | list[int] | None


class States(Protocol):
    """The result of a pass without the head: states [B, T, D]."""

    last_hidden_state: "torch.Tensor"


class Logits(Protocol):
    """The result of a pass: logits [B, T, V]."""

    logits: "torch.Tensor"


class Decoder(Protocol):
    """A model without its head: embeddings, layers and last norm."""

    config: ModelConfig

    def __call__(self, **inputs: object) -> States:
        """The result of a pass."""

    def parameters(self) -> "Iterator[torch.nn.Parameter]":
        """All weights."""


class CausalNetwork(Protocol):
    """A causal language model made of PyTorch modules."""

    config: ModelConfig
    generation_config: GenerationConfig

    def __call__(self, **inputs: object) -> Logits:
        """The result of a pass."""

    def get_decoder(self) -> Decoder:
        """The model without its head."""

    def get_input_embeddings(self) -> "torch.nn.Embedding":
        """The embeddings of tokens [V, D]."""

    def get_output_embeddings(self) -> "torch.nn.Linear":
        """The head; with an adapter on it, or on other devices, a module of another class."""

    def modules(self) -> "Iterator[torch.nn.Module]":
        """All modules, itself included."""

    def named_modules(self) -> "Iterator[tuple[str, torch.nn.Module]]":
        """All modules by their names."""

    def parameters(self) -> "Iterator[torch.nn.Parameter]":
        """All weights."""

    def activation_checkpointing_enable(self, options: Mapping[str, bool]) -> None:
        """Recompute activations in the backward pass instead of keeping them."""

    def activation_checkpointing_disable(self) -> None:
        """Keep activations for the backward pass."""
