"""Training by Tinker's SDK beside the training loop of this process, in float32."""

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import probe
from safetensors.torch import load_file
from tiny_training import CLOZE, train_tiny

pytest.importorskip("tinker", reason="tinker is not installed: pip install -r requirements-dev.txt")
from tinker_service import KEY, TinkerService, tinker_serving, trained_rows

from isogloss.errors import ConfigError, TrainingError
from isogloss.models.language_model import LanguageModel
from isogloss.prompts.render import prompt
from isogloss.prompts.tokenisation import encode
from isogloss.training.external_data import trainer_items
from isogloss.training.recipe import Recipe
from isogloss.training.tinker import (
    TinkerJob,
    by_passage,
    check_recipe,
    learning_rate,
    read_saved,
    tinker_path,
    train_on_tinker,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
# alpha is the service's; warm-up takes one step.
RECIPE = Recipe(steps=10, batch_size=4, learning_rate=5e-3, rank=2, alpha=32, seed=3)


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    yield
    gc.collect()  # here, and not in a test of something else


@pytest.fixture
def service(model_folder: Callable[[str], Path]) -> Iterator[TinkerService]:
    with tinker_serving(model_folder("gemma3")) as service:
        yield service


def job(
    tiny: LanguageModel, service: TinkerService, folder: Path, recipe: Recipe = RECIPE
) -> TinkerJob:
    items = probe("arb_Arab", "train", 16)
    rows = trainer_items(items, CLOZE, tiny.tokenizer).tokens
    folder.mkdir(exist_ok=True)
    return TinkerJob(service.engine(), by_passage(items, rows), recipe, folder, "finetune", 4)


def test_losses_rates_and_weights_are_those_of_this_process(
    tiny: LanguageModel, service: TinkerService, tmp_path: Path
) -> None:
    """Also after an interruption, from the checkpoint of step 4."""
    here = [row for row in train_tiny(tiny, tmp_path / "here", RECIPE) if "train/loss" in row]
    service.refuses = lambda path, count: (
        "no capacity in this test" if path == "forward_backward" and count == 7 else None
    )
    there: dict[int, dict[str, float]] = {}
    work = tmp_path / "work"
    with pytest.raises(TrainingError, match=r"^Tinker gives no answer: .*no capacity in this test"):
        train_on_tinker(job(tiny, service, work), tmp_path / "adapter", there.__setitem__)
    assert sorted(there) == [1, 2, 3, 4, 5, 6]
    assert read_saved(work).step == 4
    saved = train_on_tinker(job(tiny, service, work), tmp_path / "adapter", there.__setitem__)
    assert service.seen["optim_step"] == 7 + 6
    assert saved.step == 10
    for name in ("train/loss", "train/learning_rate"):
        expected = [row[name] for row in here]
        assert [there[step][name] for step in range(1, 11)] == pytest.approx(expected, abs=5e-5)
    own, other = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (tmp_path / "here" / "last", tmp_path / "adapter")
    )
    assert own.keys() == other.keys()
    for name, tensor in own.items():
        torch.testing.assert_close(other[name], tensor, atol=2e-4, rtol=1e-2)
    assert tinker_path(tmp_path / "adapter") == saved.weights
    assert saved.weights in service.saved
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert settings["base_model_name_or_path"] == "tiny/base"


def test_batches_have_the_tokens_of_evaluations_and_the_loss_on_answers(
    tiny: LanguageModel, service: TinkerService, tmp_path: Path
) -> None:
    saved = train_on_tinker(job(tiny, service, tmp_path), tmp_path / "adapter", lambda *_: None)
    items = probe("arb_Arab", "train", 16)
    prompts = [prompt(item, CLOZE, tiny.tokenizer) for item in items]
    expected = set()
    for item, entry in zip(items, encode(tiny.tokenizer, prompts), strict=True):
        sequence, start = entry.sequences[item.answer], entry.starts[item.answer]
        expected.add((tuple(sequence), tuple(sequence[start:])))
    steps = [trained_rows(request) for request in service.data]
    assert {len(rows) for rows in steps} == {4}
    seen = [(tuple(ids), tuple(answer)) for rows in steps for ids, answer in rows]
    assert set(seen) == expected
    assert saved.tokens == sum(len(ids) - 1 for ids, _ in seen)
    (given,) = [body for path, body in service.bodies if path == "create_model"]
    assert given["lora_config"] == {
        "rank": 2, "seed": 3, "train_unembed": False, "train_mlp": True, "train_attn": True,
    }  # fmt: skip
    lifetimes = [body.get("ttl_seconds") for path, body in service.bodies if "save" in path]
    assert lifetimes == [30 * 24 * 3600] * 3 + [None, 3600]  # states, weights, and an export


def test_an_export_without_peft_files_is_refused_and_the_training_is_kept(
    tiny: LanguageModel, service: TinkerService, tmp_path: Path
) -> None:
    short = job(tiny, service, tmp_path, Recipe(steps=1, batch_size=1, rank=2))
    service.exports = ("adapter_model.safetensors",)
    with pytest.raises(TrainingError, match=r"^Tinker exports no adapter_config.json \(of 1 files"):
        train_on_tinker(short, tmp_path / "adapter", lambda *_: None)
    service.exports = ("adapter_config.json", "adapter_model.safetensors")
    train_on_tinker(short, tmp_path / "adapter", lambda *_: None)
    assert service.seen["optim_step"] == 1


def test_the_schedule_is_that_of_transformers() -> None:
    from transformers import get_linear_schedule_with_warmup

    recipe = Recipe(steps=25, learning_rate=0.3)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    schedule = get_linear_schedule_with_warmup(optimizer, recipe.warmup_steps, 25)
    rates = []
    for _ in range(25):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert [learning_rate(recipe, step) for step in range(25)] == pytest.approx(rates)


def test_what_tinker_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError) as dropout:
        check_recipe(Recipe(dropout=0.1))
    assert str(dropout.value) == "dropout is 0.1, but Tinker has none; expected 0."
    with pytest.raises(ConfigError, match="groups of layers; expected all-linear or attention"):
        check_recipe(Recipe(target_modules="q_proj"))
