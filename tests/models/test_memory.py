"""Token budgets follow the memory of the machine."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import isogloss
from isogloss.models import memory
from isogloss.models.language_model import LanguageModel
from isogloss.models.memory import cpu_tokens_per_batch, training_token_budget


def test_a_training_pass_uses_a_quarter_of_the_total_memory(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SimpleNamespace(total=4 * 10**6)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    config = tiny.network.config
    layer = 4 * (4 * config.intermediate_size + 8 * config.hidden_size)
    between = 4 * config.hidden_size * config.num_hidden_layers
    activations = config.num_hidden_layers * layer + between
    assert training_token_budget(tiny) == 10**6 // activations
    assert training_token_budget(tiny, checkpointing=True) == 10**6 // (layer + between)
    memory.total = 1
    assert training_token_budget(tiny) == 1
    memory.total = 10**12
    assert training_token_budget(tiny) == 2048


def test_a_training_pass_on_a_gpu_uses_most_of_what_the_weights_leave(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = sum(weight.nbytes for weight in tiny.network.parameters())
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (0, weights + 10**8))
    gpu = SimpleNamespace(device=SimpleNamespace(type="cuda"), dtype=torch.bfloat16)
    config = tiny.network.config
    gpu.network, gpu.head_apart = tiny.network, True
    layer = 3 * (4 * config.intermediate_size + 8 * config.hidden_size)
    activations = config.num_hidden_layers * (layer + 4 * config.hidden_size)
    assert training_token_budget(gpu) == int(0.7 * 10**8 // activations)


def test_what_a_model_has_left_is_returned_to_the_kernel() -> None:
    # In a process of its own: how glibc allocates is set for good.
    program = """
import psutil
import torch
from isogloss.models.memory import keep_freed_memory, return_freed_memory

def resident():
    return psutil.Process().memory_info().rss / 1e6

keep_freed_memory()
before = resident()
weights = [torch.ones(10**6) for _ in range(100)]
del weights
kept = resident() - before
return_freed_memory()
print(kept, resident() - before)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(isogloss.__file__).parents[1])}
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env=environment
    )
    kept, left = map(float, output.stdout.split())
    if kept < 300:
        pytest.skip("the C library does not keep freed memory")
    assert left < 100


@pytest.mark.parametrize(
    ("dtype", "units", "tokens"),
    [
        (torch.bfloat16, True, 4096),
        (torch.bfloat16, False, 1024),
        (torch.float32, True, 1024),
    ],
)
def test_batches_are_larger_where_products_are_faster(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, units: bool, tokens: int
) -> None:
    monkeypatch.setattr(memory, "matrix_units", lambda: units)
    assert cpu_tokens_per_batch(dtype) == tokens
