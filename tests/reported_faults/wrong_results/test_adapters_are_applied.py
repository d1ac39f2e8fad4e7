"""What is scored as tuned is the model with its adapter: every method equals peft, or is rejected."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_adapters import ALL, IDS, naive, save_biased_model, scored, write_adapter

from isogloss.models.adapters import attach, detach
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate

# peft warns of settings, and of CUDA extensions that it does without.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LORA", {"target_modules": ALL}),
    "dora": ("LORA", {"target_modules": ALL, "use_dora": True}),
    "rslora": ("LORA", {"target_modules": ALL, "use_rslora": True, "r": 4, "lora_alpha": 16}),
    "rank and alpha patterns": (
        "LORA",
        {"target_modules": ALL, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    ),
    "some layers": ("LORA", {"target_modules": ALL, "layers_to_transform": [1]}),
    "lora with biases of its own": ("LORA", {"target_modules": ALL, "lora_bias": True}),
    "all biases": ("LORA", {"target_modules": ["q_proj"], "bias": "all"}),
    "biases of its modules": ("LORA", {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "head": ("LORA", {"target_modules": ["lm_head", "q_proj"]}),
    "embeddings": ("LORA", {"target_modules": ["embed_tokens", "q_proj"]}),
    "whole head and embeddings": (
        "LORA",
        {"target_modules": ALL, "modules_to_save": ["lm_head", "embed_tokens"]},
    ),
    "whole norm": ("LORA", {"target_modules": ALL, "modules_to_save": ["norm"]}),
    "tokens": ("LORA", {"target_modules": ALL, "trainable_token_indices": [7, 9]}),
    "adalora": ("ADALORA", {"target_modules": ALL, "total_step": 10}),
    "boft": ("BOFT", {"target_modules": ALL, "boft_block_size": 4}),
    "boft with biases": (
        "BOFT",
        {"target_modules": ["q_proj"], "boft_block_size": 4, "bias": "boft_only"},
    ),
    "c3a": ("C3A", {"target_modules": ALL, "block_size": 16}),
    "delora": ("DELORA", {"target_modules": ALL}),
    "fourierft": ("FOURIERFT", {"target_modules": ALL, "n_frequency": 50, "scaling": 300.0}),
    "gralora": ("GRALORA", {"target_modules": ALL, "r": 8}),
    "hra": ("HRA", {"target_modules": ALL, "r": 4}),
    "ia3": ("IA3", {"target_modules": ALL, "feedforward_modules": ["down_proj"]}),
    "norms": ("LN_TUNING", {"target_modules": ["input_layernorm"]}),
    "loha": ("LOHA", {"target_modules": ALL}),
    "lokr": ("LOKR", {"target_modules": ALL}),
    "miss": ("MISS", {"target_modules": ALL, "r": 8}),
    "oft": ("OFT", {"target_modules": ALL, "oft_block_size": 8}),
    "randlora": ("RANDLORA", {"target_modules": ALL, "r": 4}),
    "only tokens": ("TRAINABLE_TOKENS", {"token_indices": [7, 9]}),
    "vblora": ("VBLORA", {"target_modules": ALL, "vector_length": 8, "num_vectors": 16}),
    "vera": ("VERA", {"target_modules": ALL}),
    "vera without its projection": (
        "VERA",
        {"target_modules": ALL, "save_projection": False},
    ),
}


@pytest.fixture(scope="module")
def folder(
    tokenizer: transformers.PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return save_biased_model(tmp_path_factory.mktemp("biased") / "model", tokenizer)


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    """One model for all adapters: each test also shows that the one before has left no trace."""
    return load(locate(str(folder)), "float32")


@pytest.fixture(scope="module")
def plain(folder: Path) -> torch.Tensor:
    """Logits [T, V] of the base model."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        return network(torch.tensor([IDS])).logits[0]


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_adapter_scores_as_in_peft_and_the_base_model_as_without_it(
    name: str, model: LanguageModel, folder: Path, plain: torch.Tensor, tmp_path: Path
) -> None:
    method, options = ACCEPTED[name]
    expected = naive(write_adapter(folder, tmp_path, method, **options))
    assert abs(expected - naive(plain)) > 1e-3
    digest = attach(model, tmp_path)
    assert scored(model, digest) == pytest.approx(expected, abs=1e-4)
    assert scored(model, None) == pytest.approx(naive(plain), abs=1e-4)
    assert scored(model, digest) == pytest.approx(expected, abs=1e-4)
    detach(model)
    assert scored(model, None) == pytest.approx(naive(plain), abs=1e-4)
