"""The head: logits by parts, of selected states, and after all that a model does to them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, SIZE, probe
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    PreTrainedTokenizerFast,
)

from isogloss.inference.scoring import score
from isogloss.models import lm_head
from isogloss.models.forward import hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import can_split, logit_parts, logits
from isogloss.models.loading import load
from isogloss.models.locate import ModelLocation, locate
from isogloss.models.paths import proven_paths
from isogloss.models.prefix_tree import TokenTree
from isogloss.prompts.protocol import Protocol
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import encode

# What models do after their heads.
AFTER_HEAD = {
    "capped": lambda: Gemma2Config(**SIZE, final_logit_softcapping=3.0),
    "scaled": lambda: CohereConfig(**SIZE, logit_scale=0.25),
    "divided": lambda: GraniteConfig(**SIZE, logits_scaling=7.0),
}


def in_memory(config: object, tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    location = ModelLocation("in memory", Path("."), "")
    model = LanguageModel(location, tokenizer, network, torch.device("cpu"), torch.float32)
    proven_paths(model)
    return model


def states_and_logits(model: LanguageModel, tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The last hidden states and logits of a sequence, computed by the model itself."""
    with torch.inference_mode(), model.autocast():
        ids = torch.tensor([tokens])
        return model.network.get_decoder()(ids).last_hidden_state[0], model.network(ids).logits[0]


@pytest.mark.parametrize("architecture", sorted(AFTER_HEAD))
def test_parts_of_the_vocabulary_have_the_logits_of_the_model(
    architecture: str, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_head, "PART", 100)
    monkeypatch.setattr(lm_head, "PART_FOR_FEW", 33)
    model = in_memory(AFTER_HEAD[architecture](), tokenizer)
    hidden_ND, expected_NV = states_and_logits(model, list(range(7, 27)))
    with torch.inference_mode():
        few_NV = logits(model, hidden_ND[:5])
        parts = list(logit_parts(model, hidden_ND))
        assert [start for start, _ in parts] == [0, 100, 200, 300, 400, 500]
        joined_NV = torch.cat([part for _, part in parts], -1)
    assert torch.allclose(joined_NV, expected_NV, atol=1e-5)
    assert torch.allclose(few_NV, expected_NV[:5], atol=1e-5)


def test_a_head_is_not_split_if_the_model_combines_logits_after_it(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for after_head in (
        lambda logits: logits.log_softmax(-1),
        lambda logits: logits.index_fill(-1, torch.tensor([500]), -9.0),
    ):
        model = in_memory(CONFIGS["llama"](), tokenizer)
        own_forward = model.network.forward

        def forward(*args: object, **kwargs: object) -> object:
            output = own_forward(*args, **kwargs)  # noqa: B023
            output.logits = after_head(output.logits)  # noqa: B023
            return output

        model.network.forward = forward
        hidden_ND, expected_NV = states_and_logits(model, list(range(7, 27)))
        with torch.inference_mode():
            ((start, logits_NV),) = logit_parts(model, hidden_ND)
        assert start == 0
        assert torch.allclose(logits_NV, expected_NV, atol=1e-5)
        items = probe("eng_Latn", "test", 3)
        encoded = encode(tokenizer, [prompt(item, Protocol("cloze")) for item in items])
        assert not can_split(model)
        assert len(score(model, encoded, items, share=True)) == 3


def test_a_head_with_an_adapter_keeps_its_own_product(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    from peft import LoraConfig, get_peft_model

    model = in_memory(CONFIGS["llama"](), tokenizer)
    assert can_split(model)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["lm_head"], init_lora_weights=False)
    peft_model = get_peft_model(model.network, config)
    hidden_ND, expected_NV = states_and_logits(model, list(range(7, 27)))
    with torch.inference_mode():
        ((_, logits_NV),) = logit_parts(model, hidden_ND)
    assert torch.allclose(logits_NV, expected_NV, atol=1e-5)
    peft_model.unload()
    assert can_split(model)


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_the_last_layer_computes_only_the_selected_nodes(
    architecture: str, model_folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(model_folder(architecture))), "float32")
    tree = TokenTree()
    path = tree.insert(list(range(7, 57)))
    sizes: list[int] = []
    mlp = model.network.get_decoder().layers[-1].mlp
    hook = mlp.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[1]))
    computed: list[int] = []
    own_forward = mlp.forward
    mlp.forward = lambda hidden: computed.append(hidden.shape[1]) or own_forward(hidden)
    try:
        with torch.inference_mode():
            some_ND = hidden_states(model, [tree], [path[-3:]])
            all_TD = hidden_states(model, [tree], [path])
    finally:
        hook.remove()
        del mlp.forward
    assert torch.allclose(some_ND, all_TD[-3:], atol=1e-5)
    assert computed == [3, 50]
    assert sizes == [50, 50]


def test_in_bfloat16_embeddings_are_stored_in_bfloat16_and_summed_in_float32(
    model_folder: Callable[[str], Path],
) -> None:
    model = load(locate(str(model_folder("gemma3"))), "bfloat16")
    embedding = model.network.get_decoder().get_input_embeddings()
    assert embedding.weight.dtype == torch.bfloat16
    assert embedding(torch.tensor([5])).dtype == torch.float32
    assert model.network.get_output_embeddings().weight is embedding.weight
    assert model.head_weight.data_ptr() == embedding.weight.data_ptr()
    assert {weight.dtype for weight in model.network.parameters() if weight.dim() == 1} == {
        torch.float32
    }
