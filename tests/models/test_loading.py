"""Loading: bfloat16 weights, attention implementations, device maps and offloaded layers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model, infer_auto_device_map
from conftest import CONFIGS, probe
from peft import get_peft_model
from tiny_training import RECIPE, answers, train_tiny
from transformers import AutoModelForCausalLM, LlamaConfig

from isogloss.config import EvaluateConfig
from isogloss.errors import ConfigError, ModelError
from isogloss.inference.predict import predict
from isogloss.models import loading
from isogloss.models.adapters import attach
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.lora import lora_config
from isogloss.models.paths import _tree_allowed, can_share
from isogloss.prompts.protocol import Protocol
from isogloss.stages.evaluate import evaluate
from isogloss.stages.session import Session

CPU = torch.device("cpu")
LETTER = Protocol("letter")
FAST = replace(RECIPE, steps=20, eval_every=20, learning_rate=3e-2, rank=4, alpha=8)
# For a tiny model of three layers. Layers on disk are loaded in each pass, as for a small GPU.
OFFLOADED = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "disk",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}


def letter_logprobs(model: LanguageModel) -> list[list[float]]:
    predictions = predict(model, probe("eng_Latn", "test", 4), LETTER, "probe")
    return [prediction.choice_logprobs for prediction in predictions]


def offload(model: LanguageModel, folder: Path) -> LanguageModel:
    """Move some layers to disk and put a hook of accelerate on each module."""
    devices = dict(OFFLOADED)
    if model.network.config.tie_word_embeddings:
        devices["lm_head"] = devices["model.embed_tokens"]
    dispatch_model(model.network, devices, offload_dir=folder, force_hooks=True)
    assert model.offloaded
    return model


@pytest.mark.parametrize("target_modules", ["all-linear", "attention+experts"])
def test_lora_on_bfloat16_weights_is_trained_and_loaded_in_float32(
    target_modules: str,
    model_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    location = locate(str(model_folder("qwen3_moe")))
    monkeypatch.setattr(loading, "weights_dtype", lambda dtype, device: torch.bfloat16)
    model = load(location, "bfloat16")
    assert {weight.dtype for weight in model.network.parameters()} == {torch.bfloat16}
    peft_model = get_peft_model(
        model.network, lora_config(model.network, target_modules, 2, 4, 0.0)
    )
    dtypes = {weight.dtype for weight in peft_model.parameters() if weight.requires_grad}
    assert dtypes == {torch.float32}
    peft_model.unload()
    before = answers(model)
    log = train_tiny(model, tmp_path / "adapter", replace(FAST, target_modules=target_modules))
    losses = [entry["train/loss"] for entry in log if "train/loss" in entry]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert answers(model) == before
    first = answers(model, attach(model, tmp_path / "adapter" / "last"))
    loras = [weight for name, weight in model.network.named_parameters() if ".lora_" in name]
    assert {weight.dtype for weight in loras} == {torch.float32}
    again = load(location, "bfloat16")
    assert answers(again, attach(again, tmp_path / "adapter" / "last")) == first != before


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_attention_implementation_gives_the_same_answers(
    attention: str, tiny: LanguageModel
) -> None:
    assert tiny.network.config._attn_implementation == "sdpa"
    model = load(tiny.location, "float32", attention)
    assert model.network.config._attn_implementation == attention
    for logprobs, expected in zip(answers(model), answers(tiny), strict=True):
        assert logprobs == pytest.approx(expected, abs=2e-4)


def test_flash_attention_shares_no_prefixes(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert can_share(tiny)
    # The name alone: the computation itself needs a GPU.
    monkeypatch.setattr(type(tiny.network.config), "_attn_implementation", "flash_attention_2")
    assert not _tree_allowed(tiny)


def test_flash_attention_is_rejected_without_its_package_or_in_float32(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="flash-attn is not installed or there is no GPU"):
        load(tiny.location, "bfloat16", "flash_attention_2")
    monkeypatch.setattr("transformers.utils.import_utils.is_flash_attn_2_available", lambda: True)
    with pytest.raises(ModelError, match="needs dtype bfloat16"):
        load(tiny.location, "float32", "flash_attention_2")


def test_only_a_named_attention_is_part_of_the_fingerprint(
    model_folder: Callable[[str], Path],
) -> None:
    options = {"model": str(model_folder("llama")), "dtype": "float32", "languages": ("eng_Latn",)}
    runs = {}
    for attention in ("auto", "eager", "sdpa"):
        config = EvaluateConfig(**options, limit=2, attention=attention)
        runs[attention] = evaluate(config, Session.of(config))
    assert len({run.info.run_id for run in runs.values()}) == 3
    tags = {name: run.data.tags.get("isogloss.attention") for name, run in runs.items()}
    assert tags == {"auto": None, "eager": "eager", "sdpa": "sdpa"}
    assert runs["auto"].data.params["attention"] == "auto"
    assert Session("embedded", "float32").numerics == {"dtype": "float32"}
    assert Session("embedded", "nf4", "sdpa").numerics == {"dtype": "nf4", "attention": "sdpa"}
    # The devices of layers change no number: the run is reused.
    config = EvaluateConfig(**options, limit=2, device_map="auto")
    assert evaluate(config, Session.of(config)).info.run_id == runs["auto"].info.run_id


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_offloaded_layers_and_heads_give_the_same_answers(
    architecture: str, dtype: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    location = locate(str(model_folder(architecture)))
    whole = load(location, dtype)
    assert not whole.offloaded
    spread = offload(load(location, dtype), tmp_path)
    assert spread.network.get_output_embeddings().weight.is_meta == (architecture != "gemma3")
    assert answers(spread) == answers(whole)
    assert letter_logprobs(spread) == letter_logprobs(whole)
    assert not any(weight.requires_grad for weight in spread.network.parameters())


def test_an_automatic_device_map_trains_the_same_adapter(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    location = locate(str(model_folder("llama")))
    single, spread = load(location, "float32"), load(location, "float32", device_map="auto")
    logs = [
        train_tiny(model, tmp_path / str(number)) for number, model in enumerate((single, spread))
    ]
    assert logs[0] == logs[1]
    for folder in ("0", "1"):
        first, second = (
            answers(model, attach(model, tmp_path / folder / "last")) for model in (single, spread)
        )
        assert first == second


def test_offloaded_layers_cannot_have_an_adapter(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    location = locate(str(model_folder("llama")))
    whole, spread = load(location, "float32"), load(location, "float32", device_map=OFFLOADED)
    assert spread.device == CPU
    assert answers(spread) == answers(whole)
    with pytest.raises(ConfigError, match="cannot be trained"):
        train_tiny(spread, tmp_path / "rejected")
    train_tiny(whole, tmp_path / "adapter")
    with pytest.raises(ModelError, match="cannot have an adapter"):
        attach(spread, tmp_path / "adapter" / "last")
    assert answers(spread) == answers(whole)


def test_a_model_of_70_billion_weights_gets_lora_checkpointing_and_a_device_map() -> None:
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        assert sum(weight.numel() for weight in network.parameters()) == 70_553_706_496
        peft_model = get_peft_model(network, lora_config(network, "all-linear", 16, 32, 0.05))
        network.activation_checkpointing_enable()
    trained = {name: w for name, w in peft_model.named_parameters() if w.requires_grad}
    hidden, inner, keys = 8192, 28672, 1024
    ends = [(hidden, hidden), (hidden, keys), (hidden, keys), (hidden, hidden)]
    ends += [(hidden, inner), (hidden, inner), (inner, hidden)]
    expected = 80 * 16 * sum(into + out for into, out in ends)
    assert sum(weight.numel() for weight in trained.values()) == expected
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    layers = network.model.layers
    assert all(layer.gradient_checkpointing for layer in layers)
    places = infer_auto_device_map(
        network,
        max_memory={0: "80GiB", 1: "80GiB"},
        no_split_module_classes=network._no_split_modules,
    )
    assert set(places.values()) == {0, 1}
    assert places["lm_head"] == 1
    on_first = {places[f"model.layers.{number}"] for number in range(20)}
    assert on_first == {0}
