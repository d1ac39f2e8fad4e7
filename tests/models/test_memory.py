"""Token budgets follow the memory of the machine."""

from types import SimpleNamespace

import pytest

from isogloss.models.language_model import LanguageModel
from isogloss.models.memory import training_token_budget


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
