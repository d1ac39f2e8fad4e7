"""Operations: equal to those that torch counts, in forward and backward passes."""

import pytest
import torch
from conftest import CONFIGS
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, PreTrainedConfig

from isogloss.costs.operations import (
    Lora,
    Work,
    attention_operations,
    forward_operations,
    mean_keys,
    training_operations,
)
from isogloss.costs.shape import ModelShape
from isogloss.models.shapes import read_shape

TOKENS, RANK = 40, 4


def shape_of(config: PreTrainedConfig) -> ModelShape:
    """The shape of a network that has no memory."""
    with torch.device("meta"):
        return read_shape(AutoModelForCausalLM.from_config(config))


def counted(config: PreTrainedConfig, lora: bool = False, checkpointing: bool = False) -> int:
    """Operations of a pass over one sequence that torch counts; of training with LoRA."""
    from peft import LoraConfig, get_peft_model

    network = AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    )
    tokens = torch.arange(TOKENS)[None]
    if not lora:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(input_ids=tokens, use_cache=False)
        return counter.get_total_flops()
    adapter = get_peft_model(network, LoraConfig(r=RANK, target_modules="all-linear"))
    if checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
        network.train()
    with FlopCounterMode(display=False) as counter:
        adapter(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3", "qwen3_moe"])
def test_operations_of_a_forward_pass_are_those_that_torch_counts(family: str) -> None:
    config = CONFIGS[family]()
    shape = shape_of(config)
    # torch multiplies masked entries too, so every token attends to all; rotary positions are the
    # rest of what it counts.
    expected = forward_operations(shape, Work(TOKENS, TOKENS, keys=TOKENS)).total
    assert counted(config) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_operations_of_training_are_those_that_torch_counts(checkpointing: bool) -> None:
    config = CONFIGS["llama"]()
    shape = shape_of(config)
    work = Work(TOKENS, TOKENS, keys=TOKENS)
    expected = training_operations(shape, work, Lora(RANK), checkpointing=checkpointing).total
    if not checkpointing:  # no gradient goes to the embeddings through q, k and v
        first = shape.layers[0].matrices[:3]
        expected -= TOKENS * sum(matrix.operations for matrix in first)
        expected -= TOKENS * 2 * RANK * 3 * shape.hidden
    assert counted(config, lora=True, checkpointing=checkpointing) == pytest.approx(
        expected, rel=0.01
    )


def test_the_last_layer_computes_keys_and_values_only_where_its_output_is_not_needed() -> None:
    shape = shape_of(CONFIGS["llama"]())
    whole = forward_operations(shape, Work(100, 5, keys=20))
    spared = forward_operations(shape, Work(100, 5, 10, keys=20))
    last = shape.layers[-1]
    keys_and_values = sum(matrix.operations for matrix in last.matrices[1:3])
    saved = last.operations - keys_and_values + attention_operations(last, 20)
    assert whole.body - spared.body == pytest.approx(90 * saved)
    assert whole.head == spared.head == 5 * 2 * shape.hidden * shape.vocabulary


def test_a_window_limits_what_a_token_attends_to() -> None:
    shape = shape_of(CONFIGS["gemma3"]())
    sliding, full = shape.layers[0], shape.layers[1]
    assert (sliding.window, full.window) == (48, None)
    assert attention_operations(full, 100) == 2 * 4 * (8 + 8) * 100
    assert attention_operations(sliding, 100) == 2 * 4 * (8 + 8) * 48


def test_mean_keys_counts_each_token_and_those_before_it() -> None:
    assert mean_keys([1, 3]) == pytest.approx((1 + 1 + 2 + 3) / 4)
    assert mean_keys([]) == 0
