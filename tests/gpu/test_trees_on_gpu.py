"""Trees on a GPU: the kernel for branches and compiled layers give the states of whole sequences.

A machine with a GPU needs nothing but torch, transformers, peft and pytest:
`python -m pytest -q --noconftest -o filterwarnings=default -p no:cacheprovider tests/gpu`.
"""

from pathlib import Path
from typing import cast

import pytest
import torch
import transformers

from isogloss.compat.interfaces import CausalNetwork, Tokenizer
from isogloss.models import tree_attention
from isogloss.models.compilation import compile_layers
from isogloss.models.forward import hidden_states
from isogloss.models.language_model import Batching, LanguageModel, Paths
from isogloss.models.locate import ModelLocation
from isogloss.models.prefix_tree import TokenTree

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SIZE = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "initializer_range": 0.05,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
WINDOWS = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2}
CONFIGS = {
    "qwen3": lambda: transformers.Qwen3Config(**SIZE),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SIZE, **WINDOWS),
    "gemma2": lambda: transformers.Gemma2Config(**SIZE, **WINDOWS),  # logits of attention capped
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **SIZE, moe_intermediate_size=64, num_experts=8, num_experts_per_tok=2
    ),
}


def random_model(architecture: str, dtype: torch.dtype) -> LanguageModel:
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture](), dtype=dtype)
    device = torch.device("cuda")
    network.to(device).eval().requires_grad_(False)
    location = ModelLocation("random", Path("random"), "seed 0")
    return LanguageModel(
        location,
        cast(Tokenizer, None),
        cast(CausalNetwork, network),
        device,
        dtype,
        paths=Paths(Batching.TREE, apart=True),
    )


def sequences() -> list[list[list[int]]]:
    """Two passages with questions, some of them with options, and a text of its own."""
    generator = torch.Generator().manual_seed(1)

    def drawn(length: int) -> list[int]:
        return torch.randint(0, 512, (length,), generator=generator).tolist()

    passages = [drawn(70), drawn(40)]
    questions = [[passage + drawn(length) for length in (20, 9)] for passage in passages]
    options = [question + drawn(5) for question in questions[0] for _ in range(4)]
    return [options, questions[1], [drawn(33)]]


def planted() -> tuple[list[TokenTree], list[list[int]]]:
    """The trees of `sequences`, and the last node and one in the middle of each sequence."""
    trees, nodes = [], []
    for texts in sequences():
        trees.append(TokenTree())
        paths = [trees[-1].insert(text) for text in texts]
        nodes.append([node for path in paths for node in (path[-1], path[len(path) // 2])])
    return trees, nodes


def relative(states: torch.Tensor, expected: torch.Tensor) -> float:
    return float((states.float() - expected.float()).norm() / expected.float().norm())


PLAIN = [
    (architecture, dtype, False)
    for architecture in sorted(CONFIGS)
    for dtype in (torch.float32, torch.bfloat16)
]
COMPILED = [(architecture, torch.bfloat16, True) for architecture in ("gemma3", "qwen3_moe")]


@pytest.mark.parametrize(("architecture", "dtype", "compiled"), PLAIN + COMPILED)
def test_states_of_trees_are_those_of_their_sequences(
    architecture: str, dtype: torch.dtype, compiled: bool
) -> None:
    model = random_model(architecture, dtype)
    trees, nodes = planted()
    with torch.inference_mode():
        expected = []
        for text in (text for texts in sequences() for text in texts):
            ids = torch.tensor([text], device=model.device)
            states_TD = model.network.get_decoder()(input_ids=ids).last_hidden_state[0]
            expected += [states_TD[-1], states_TD[len(text) // 2]]
        if compiled:
            compile_layers(model)
        states_ND = hidden_states(model, trees, nodes)
    limit = 1e-4 if dtype == torch.float32 else 0.05
    assert relative(states_ND, torch.stack(expected)) < limit


@pytest.mark.parametrize(
    ("architecture", "compiled"), [("gemma3", False), ("qwen3", False), ("qwen3", True)]
)
def test_gradients_of_the_kernel_are_as_near_to_exact_ones_as_those_of_masked_attention(
    architecture: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees, nodes = planted()

    def gradients(dtype: torch.dtype, kernel: bool) -> torch.Tensor:
        model = random_model(architecture, torch.bfloat16)  # the same weights in either dtype
        model.network.to(dtype)
        model.dtype = dtype
        projections = [
            layer.self_attn.k_proj.weight.requires_grad_(True)
            for layer in model.network.get_decoder().layers
        ]
        if kernel and compiled:
            compile_layers(model)
        with monkeypatch.context() as patch:
            if not kernel:
                patch.setattr(tree_attention, "kernel_takes", lambda *_: False)
            loss = hidden_states(model, trees, nodes).float().square().mean()
            found = torch.autograd.grad(loss, projections)
        return torch.cat([part.flatten().float() for part in found])

    exact = gradients(torch.float32, kernel=False)
    masked = relative(gradients(torch.bfloat16, kernel=False), exact)
    assert relative(gradients(torch.bfloat16, kernel=True), exact) < 1.5 * masked + 0.01
