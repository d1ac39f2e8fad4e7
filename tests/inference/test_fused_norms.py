"""Fused norms: the modules' own outputs up to rounding, where they multiply by their weight."""

import copy
from pathlib import Path

import pytest
import torch
import transformers
from conftest import CONFIGS

from isogloss.inference.fused_norms import fused_norms, fusible_norms
from isogloss.models.language_model import LanguageModel
from isogloss.models.locate import ModelLocation


def model_of(architecture: str, dtype: torch.dtype, words: object) -> LanguageModel:
    """A random model whose norms have weights that are neither zero nor one."""
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture](), dtype=dtype)
    for module in network.modules():
        if type(module).__name__.endswith("RMSNorm"):
            torch.nn.init.normal_(module.weight, 0.3, 0.2)
    location = ModelLocation(architecture, Path(architecture), "")
    return LanguageModel(location, words, network.eval(), torch.device("cpu"), dtype)


@pytest.mark.parametrize("architecture", ["llama", "qwen3_moe"])
def test_all_norms_of_a_model_in_half_precision_are_fused(
    architecture: str, tokenizer: transformers.PreTrainedTokenizerFast
) -> None:
    model = model_of(architecture, torch.bfloat16, tokenizer)
    own = [
        module for module in model.network.modules() if type(module).__name__.endswith("RMSNorm")
    ]
    norms = fusible_norms(model)
    assert list(norms) == own
    for module in own:
        states = torch.randn(3, 2, *module.weight.shape).bfloat16()
        expected, exact = module(states), copy.deepcopy(module).double()(states.double())
        with fused_norms(norms):
            fused = module(states)
            assert torch.equal(module(states.float()), module.forward(states.float()))
        assert fused.dtype == torch.bfloat16
        assert (fused - exact).norm() <= 1.01 * (expected - exact).norm()


def test_other_norms_run_as_they_are(tokenizer: transformers.PreTrainedTokenizerFast) -> None:
    assert fusible_norms(model_of("llama", torch.float32, tokenizer)) == {}
    assert fusible_norms(model_of("gemma3", torch.bfloat16, tokenizer)) == {}
    model = model_of("llama", torch.bfloat16, tokenizer)
    first = model.network.model.layers[0].input_layernorm
    first.variance_epsilon = 0.0  # of the test's states, only what `forward` does counts
    first.forward = lambda states: states * first.weight
    assert first not in fusible_norms(model)
    assert len(fusible_norms(model)) == 6
