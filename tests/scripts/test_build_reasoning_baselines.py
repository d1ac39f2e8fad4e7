"""Models that learn to reason: what they are trained on, and that training is what is kept."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import probe

from isogloss.models.loading import load
from isogloss.models.locate import locate
from scripts.build_baselines import RECIPE
from scripts.build_reasoning_baselines import (
    IGNORED,
    Training,
    batches,
    build,
    loss_of,
    worked_reasoning,
)


def test_worked_reasoning_quotes_the_one_fact_that_answers() -> None:
    for item in probe("eng_Latn", "train", 64):
        text = worked_reasoning(item)
        value = item.options[item.answer]
        quoted = text.split('"')[1]
        assert quoted in item.passage
        assert value in quoted
        assert text.endswith(f'"\nAnswer: {value}')


def test_a_model_after_some_steps_has_a_lower_loss_and_is_not_built_again(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    training = Training(batch_size=2, learning_rate=1e-2, rank=2)
    untuned, tuned = build(tmp_path, str(model_folder("gemma3")), training, (0, 4))

    def loss(folder: Path) -> float:
        model = load(locate(str(folder)), "float32")
        tokens, targets = next(batches(model, training))
        first = int((targets[0] != IGNORED).nonzero()[0])
        assert targets[0, first] == tokens[0, first + 1]  # the next token is predicted
        with torch.no_grad():
            whole = model.network(input_ids=tokens).logits
            expected = torch.nn.functional.cross_entropy(whole.flatten(0, 1), targets.flatten())
            found = loss_of(model.network, tokens, targets)  # type: ignore[arg-type]
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
        return float(found)

    assert loss(tuned) < loss(untuned) - 0.05
    assert json.loads((tuned / RECIPE).read_text())["steps"] == 4
    written = (tuned / "model.safetensors").stat().st_mtime_ns
    build(tmp_path, str(model_folder("gemma3")), training, (0, 4))
    assert (tuned / "model.safetensors").stat().st_mtime_ns == written
