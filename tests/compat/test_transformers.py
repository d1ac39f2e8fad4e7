"""transformers: attention is switched between passes; the public path gives the same results."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, probe
from launched_program import PROTOCOLS
from tiny_training import RECIPE, train_tiny

from isogloss.compat.transformers import (
    attention_replaceable,
    layer_classes,
    register_attention,
    replaced_attention,
    save_dequantised,
)
from isogloss.inference.predict import predict
from isogloss.models.adapters import attach
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import can_split
from isogloss.models.loading import load
from isogloss.models.locate import locate
from isogloss.models.paths import can_share
from isogloss.prompts.protocol import Protocol
from isogloss.types import Split

MOVED = (
    "transformers no longer hands {} to a registered attention function: prefixes cannot be shared "
    "(models/tree_attention.py). Set ISOGLOSS_PUBLIC_INTERFACES=1 until compat/transformers.py "
    "has another way."
)


def use_public_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOGLOSS_PUBLIC_INTERFACES", "1")


def answers(model: LanguageModel, protocol: Protocol) -> list[tuple[int, list[float]]]:
    items = probe("heb_Hebr", Split.TEST, 6) + probe("eng_Latn", Split.TEST, 2)
    return [
        (prediction.prediction, prediction.choice_logprobs)
        for prediction in predict(model, items, protocol, "probe")
    ]


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_a_registered_function_gets_the_arguments_of_the_pass_and_no_mask(
    architecture: str, model_folder: Callable[[str], Path]
) -> None:
    model = load(locate(str(model_folder(architecture))), "float32")
    calls = []

    def record(module, query, key, value, attention_mask, *, note, **_: object) -> tuple:
        calls.append((note, attention_mask))
        return value.repeat_interleave(query.shape[1] // value.shape[1], 1).transpose(1, 2), None

    register_attention("recorded", record)
    own = model.network.config._attn_implementation
    assert attention_replaceable(model.network)
    with replaced_attention(model.network, "recorded"):
        model.network.get_decoder()(input_ids=torch.tensor([[5, 6, 7]]), note="here")
    layers = model.network.config.num_hidden_layers
    assert [note for note, _ in calls] == ["here"] * layers, MOVED.format("arguments of the pass")
    assert all(mask is None for _, mask in calls), MOVED.format("a row without a mask")
    assert model.network.config._attn_implementation == own


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_prefixes_are_shared_and_heads_split_only_with_private_interfaces(
    architecture: str, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    location = locate(str(model_folder(architecture)))
    private = load(location, "float32")
    assert can_share(private), MOVED.format("segments")
    assert can_split(private)
    use_public_interfaces(monkeypatch)
    public = load(location, "float32")
    assert not can_share(public)
    assert not can_split(public)


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
@pytest.mark.parametrize("architecture", ["gemma3", "qwen3_moe"])
def test_the_public_path_gives_the_same_answers(
    name: str,
    architecture: str,
    model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    location = locate(str(model_folder(architecture)))
    expected = answers(load(location, "float32"), PROTOCOLS[name])
    use_public_interfaces(monkeypatch)
    public = answers(load(location, "float32"), PROTOCOLS[name])
    for (choice, logprobs), (other, others) in zip(public, expected, strict=True):
        assert choice == other
        assert logprobs == pytest.approx(others, abs=2e-4)


def test_the_public_path_multiplies_the_head_of_a_bfloat16_model_in_float32(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    location = locate(str(model_folder("gemma3")))
    expected = answers(load(location, "bfloat16"), PROTOCOLS["letter"])
    use_public_interfaces(monkeypatch)
    public = answers(load(location, "bfloat16"), PROTOCOLS["letter"])
    for (_, logprobs), (_, others) in zip(public, expected, strict=True):
        assert logprobs == pytest.approx(others, abs=0.2)
        spread = torch.tensor(logprobs)
        assert not torch.equal(spread, spread.bfloat16().float())


def test_the_public_path_trains_the_same_adapter(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = locate(str(model_folder("gemma3")))
    expected = train_tiny(load(location, "float32"), tmp_path / "private", RECIPE)
    use_public_interfaces(monkeypatch)
    model = load(location, "float32")
    public = train_tiny(model, tmp_path / "public", RECIPE)
    for metrics, others in zip(public, expected, strict=True):
        assert metrics == pytest.approx(others, rel=1e-3, abs=1e-3)
    tables = []
    for name in ("private", "public"):
        with model.using(attach(model, tmp_path / name / "last")):
            tables.append(answers(model, PROTOCOLS["cloze"]))
    for (_, logprobs), (_, others) in zip(*tables, strict=True):
        assert logprobs == pytest.approx(others, abs=5e-3)


def test_layers_are_named_by_transformers(tiny: LanguageModel) -> None:
    classes = {type(module).__name__ for module in tiny.network.modules()}
    assert set(layer_classes(tiny.network)) & classes, (
        "transformers no longer states the classes of a model's layers in `_no_split_modules`: "
        "users of FSDP have to set fsdp_transformer_layer_cls_to_wrap."
    )


def test_a_dequantised_model_is_saved_alike_by_the_public_path(
    tiny: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    tiny.network.config.quantization_config = {"quant_method": "gguf"}
    for name in ("public", "private"):  # the private path changes the model
        if name == "public":
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ISOGLOSS_PUBLIC_INTERFACES", "1")
                save_dequantised(tiny.network, tmp_path / name)
        else:
            save_dequantised(tiny.network, tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "private").iterdir()}
    assert {"config.json", "model.safetensors"} <= files.keys()
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "public").iterdir()}
    assert b"quantization_config" not in files["config.json"]
