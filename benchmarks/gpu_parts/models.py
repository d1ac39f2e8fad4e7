"""Models with random weights at real sizes, built on the device, with a tokenizer built in memory.

Sizes are those of the published config.json of Qwen3-4B, Qwen3-8B and Qwen3-30B-A3B.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3MoeConfig

from benchmarks.flops import body_flops
from isogloss.compat.interfaces import CausalNetwork
from isogloss.compat.interfaces import Tokenizer as AnyTokenizer
from isogloss.models.compilation import compile_layers, worth_compiling
from isogloss.models.language_model import LanguageModel
from isogloss.models.locate import ModelLocation
from isogloss.models.paths import proven_paths

QWEN3 = {
    "vocab_size": 151936,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "initializer_range": 0.02,
}
SIZES: dict[str, dict[str, Any]] = {
    "4b": QWEN3
    | {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "8b": QWEN3
    | {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "30b-a3b": QWEN3
    | {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "tiny": {
        "vocab_size": 4096,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "initializer_range": 0.1,
        "tie_word_embeddings": False,
    },
}
SHORT = "-short"  # of a name: the same model with so few layers that float32 fits a card
SIZES[f"30b-a3b{SHORT}"] = SIZES["30b-a3b"] | {"num_hidden_layers": 8}
SIZES["tiny-moe"] = SIZES["tiny"] | {
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
}
VOCABULARY = 500  # of the tokenizer's texts; prompts then have about as many tokens as real ones


def counted(name: str) -> dict[str, Any]:
    """The sizes as `benchmarks.flops` counts them: a mixture as the experts that a token uses."""
    size = SIZES[name]
    if "num_experts" not in size:
        return size
    return size | {"intermediate_size": size["moe_intermediate_size"] * size["num_experts_per_tok"]}


def describe(name: str) -> dict[str, Any]:
    """What results say about a model."""
    return {"sizes": SIZES[name], "body_gflop_per_token": body_flops(counted(name)) / 1e9}


def build(name: str, device: torch.device, tokenizer: AnyTokenizer) -> LanguageModel:
    """A model with random weights (normal, seed 0) in bfloat16, initialised on its device."""
    size = SIZES[name]
    kind: Any = Qwen3MoeConfig if "num_experts" in size else Qwen3Config
    config = kind(**size, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    torch.manual_seed(0)
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    network.eval()
    network.requires_grad_(False)
    return language_model(name, cast(CausalNetwork, network), device, tokenizer)


def language_model(
    name: str, network: CausalNetwork, device: torch.device, tokenizer: AnyTokenizer
) -> LanguageModel:
    """A network as the model that isogloss's functions take, prepared as by `load`."""
    dtype = next(network.parameters()).dtype
    location = ModelLocation(f"random-{name}", Path(f"random-{name}"), "seed 0")
    model = LanguageModel(location, tokenizer, network, device, dtype)
    proven_paths(model)
    if worth_compiling(model):
        compile_layers(model)
    return model


def cast_weights(network: CausalNetwork, dtype: torch.dtype) -> None:
    """Give the weights of a network another dtype; those in bfloat16 are exact in float32.

    Buffers keep their dtype: transformers keeps the frequencies of rotary positions in float32.
    """
    for weight in network.parameters():
        weight.data = weight.data.to(dtype)


def train_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the texts, with an end-of-sequence token.

    Texts have the first few hundred tokens alone; the others, up to `size`, are there because a
    model with random weights generates them.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Letters with their space are frequent enough for a token of their own, as in real tokenizers.
    letters = [" A B C D"] * 10000
    tokenizer.train_from_iterator([*texts, *letters], trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer = _with_all_ids(tokenizer, size)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>", model_max_length=10**6
    )


def _with_all_ids(tokenizer: Tokenizer, size: int) -> Tokenizer:
    """The tokenizer with a token for every id below `size`, which no text has."""
    description = json.loads(tokenizer.to_str())
    vocabulary = description["model"]["vocab"]
    vocabulary |= {f"<{token}>": token for token in range(len(vocabulary), size)}
    return Tokenizer.from_str(json.dumps(description))
