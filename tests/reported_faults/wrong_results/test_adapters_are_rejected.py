"""An adapter that scoring would not see, or that belongs elsewhere, is rejected in one sentence."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_adapters import (
    ALL,
    CONFIG,
    WEIGHTS,
    change_config,
    change_weights,
    save_biased_model,
    scored,
    write_adapter,
)

from isogloss.errors import ModelError
from isogloss.models.adapter_files import METHODS, check_base, check_chat_template, read_adapter
from isogloss.models.adapters import attach
from isogloss.models.language_model import LanguageModel
from isogloss.models.loading import load
from isogloss.models.locate import ModelLocation, locate

Change = Callable[[Path], object]
KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
COMMIT, OTHER_COMMIT, SHA256 = "a" * 40, "b" * 40, "c" * 64


@pytest.fixture(scope="module")
def folder(
    tokenizer: transformers.PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return save_biased_model(tmp_path_factory.mktemp("biased") / "model", tokenizer)


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written")
    write_adapter(folder, path, target_modules=ALL)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load(locate(str(folder)), "float32")


@pytest.fixture
def adapter(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "adapter")


def renamed(old: str, new: str) -> Change:
    return lambda path: change_weights(path, lambda key, value: (key.replace(old, new), value))


def settings(**values: Any) -> Change:
    return lambda path: change_config(path, lambda config: config.update(values))


def values(change: Callable[[str, torch.Tensor], torch.Tensor | None]) -> Change:
    def changed(key: str, value: torch.Tensor) -> tuple[str, torch.Tensor] | None:
        new = change(key, value)
        return None if new is None else (key, new)

    return lambda path: change_weights(path, changed)


REJECTED: dict[str, tuple[Change, str]] = {
    "every key with an unknown prefix": (
        renamed("base_model.model.model.layers", "base_model.model.encoder.blocks"),
        r"does not fit .*: 18 of its 18 tensors have no place in the model, first "
        r"base_model.model.encoder.blocks.0\.",
    ),
    "one layer renamed": (
        renamed("layers.1.mlp", "layers.7.mlp"),
        r"2 of its 18 tensors have no place .* first \S*layers.7.mlp.down_proj.lora_A.weight",
    ),
    "one tensor missing": (
        values(lambda key, value: None if key == KEY else value),
        f"1 tensors are missing from its file, first {re.escape(KEY)}",
    ),
    "another rank than stated": (
        settings(r=4),
        r"18 of its 18 tensors have other shapes, first \S+: \(8, 64\), in the model \(4, 64\)",
    ),
    "NaN": (
        values(lambda key, value: value * torch.nan if key == KEY else value),
        f"NaN or infinite, first in '{re.escape(KEY)}'",
    ),
    "infinity": (
        values(lambda key, value: value / 0 if key == KEY else value),
        "NaN or infinite",
    ),
    "finite weights whose product is not": (
        values(lambda key, value: value.sign() * 1e38),
        "makes logits .* NaN or infinite",
    ),
    "lora_B zero": (
        values(lambda key, value: value * (0 if "lora_B" in key else 1)),
        "is untrained: lora_B is zero in all of its 9 modules",
    ),
    "lora_A zero": (
        values(lambda key, value: value * (0 if "lora_A" in key else 1)),
        "does not change the output",
    ),
    "alpha zero": (settings(lora_alpha=0), "does not change the output"),
    "no tensors": (values(lambda key, value: None), "holds no tensor"),
    "not safetensors": (
        lambda path: (path / WEIGHTS).write_bytes(b"PK\3\4"),
        "adapter_model.safetensors of adapter .* cannot be read",
    ),
    "a configuration that is not JSON": (
        lambda path: (path / CONFIG).write_text("{"),
        r"adapter .*: adapter_config\.json is not valid JSON",
    ),
    "weights as a pickle only": (
        lambda path: (path / WEIGHTS).rename(path / "adapter_model.bin"),
        "has no adapter_model.safetensors",
    ),
    "an option of another version of peft": (
        settings(new_scaling="square"),
        "options that peft .* does not know and would ignore .new_scaling.",
    ),
    "modules that the model does not have": (settings(target_modules=["c_attn"]), "c_attn"),
    "a classifier": (settings(task_type="SEQ_CLS"), "task_type SEQ_CLS; expected CAUSAL_LM"),
    "aLoRA": (settings(alora_invocation_tokens=[3]), "option alora_invocation_tokens"),
    "repeated layers": (settings(layer_replication=[[0, 2], [1, 3]]), "option layer_replication"),
    "PiSSA": (settings(init_lora_weights="pissa"), "init_lora_weights 'pissa', which changes"),
    "OLoRA": (settings(init_lora_weights="olora"), "init_lora_weights 'olora', which changes"),
    "biases that were not saved": (
        settings(bias="lora_only"),
        r"bias is 'lora_only', but 6 of these are missing .* model.layers.0.self_attn.q_proj.bias",
    ),
    "another base model": (
        settings(base_model_name_or_path="somebody/another-model"),
        "was trained on 'somebody/another-model', but the model is .*; if it is the same model, "
        "set allow_base to 'somebody/another-model'",
    ),
    "another base model at a branch": (
        settings(base_model_name_or_path="somebody/another-model", revision="main"),
        "was trained on 'somebody/another-model', but",
    ),
    "another revision": (settings(revision=SHA256), "at cccccccccccc, but the model is"),
    "a tokenizer with other ids": (
        lambda path: (path / "added_tokens.json").write_text('{"<eos>": 3, "<new>": 513}'),
        "1 tokens have other ids than in the model's .first '<eos>'.",
    ),
} | {
    method: (settings(peft_type=method), f"uses the method {method}, which does not act within")
    for method in (
        "PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT",
        "ADAPTION_PROMPT", "CARTRIDGE", "XLORA", "POLY", "SHADOW", "NOT_YET_INVENTED",
    )
}  # fmt: skip


@pytest.mark.parametrize("name", REJECTED)
def test_an_adapter_that_would_not_be_applied_is_rejected_and_leaves_no_trace(
    name: str, model: LanguageModel, adapter: Path
) -> None:
    change, message = REJECTED[name]
    change(adapter)
    modules = [type(module) for module in model.network.modules()]
    with pytest.raises(ModelError, match=message) as error:
        attach(model, adapter)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)
    assert [type(module) for module in model.network.modules()] == modules
    assert not model.adapters
    assert model.peft_model is None


def test_every_method_of_peft_is_accepted_or_rejected_by_name(written: Path) -> None:
    from peft import PeftType

    assert set(METHODS) < {method.value for method in PeftType}


def test_ia3_that_multiplies_by_one_is_rejected(
    model: LanguageModel, folder: Path, tmp_path: Path
) -> None:
    options = {"target_modules": ALL, "feedforward_modules": ["down_proj"]}
    write_adapter(folder, tmp_path, "IA3", **options)
    change_weights(tmp_path, lambda key, value: (key, torch.ones_like(value)))
    with pytest.raises(ModelError, match="does not change the output"):
        attach(model, tmp_path)


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
def test_identities_up_to_rounding_are_rejected(
    model: LanguageModel, folder: Path, tmp_path: Path
) -> None:
    write_adapter(folder, tmp_path, "OFT", target_modules=ALL, oft_block_size=8)
    change_weights(tmp_path, lambda key, value: (key, torch.zeros_like(value)))
    with pytest.raises(ModelError, match="does not change the output"):
        attach(model, tmp_path)


def test_an_embedding_with_tokens_of_its_own_is_rejected(
    model: LanguageModel, folder: Path, tmp_path: Path
) -> None:
    write_adapter(folder, tmp_path, target_modules=ALL, modules_to_save=["embed_tokens"])
    change_weights(
        tmp_path,
        lambda key, value: (key, torch.cat([value, value[:3]]) if "embed_tokens" in key else value),
    )
    with pytest.raises(ModelError, match=r"embed_tokens.weight: \(515, 32\), in the model \(512,"):
        attach(model, tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("base_model.model.model.", "base_model.model.model.language_model."),
        ("base_model.model.model.", "base_model.model.language_model.model."),
        ("base_model.model.", "base_model.model.base_model.model."),
        ("base_model.model.model.", "base_model.model.model._orig_mod."),
    ],
)
def test_a_known_prefix_that_explains_every_key_is_renamed_and_logged(
    old: str,
    new: str,
    model: LanguageModel,
    adapter: Path,
    written: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = scored(model, attach(model, written))
    base = scored(model, None)
    renamed(old, new)(adapter)
    assert scored(model, attach(model, adapter)) == expected != base
    assert "adapter keys are renamed to the model's" in caplog.text
    renamed("layers.0.mlp", "layers.9.mlp")(adapter)  # which the prefix does not explain
    with pytest.raises(ModelError, match="does not fit"):
        attach(model, adapter)


NAMES = {
    "equal": ("org/Model-1B", None, True),
    "in other case": ("Org/model-1b", None, True),
    "equal at a branch": ("org/Model-1B", "main", True),
    "equal at the same commit": ("org/Model-1B", COMMIT, True),
    "equal at another commit": ("org/Model-1B", OTHER_COMMIT, False),
    "another name at the same commit": ("mirror/Model-1B", COMMIT, True),
    "a folder of another machine": ("/home/someone/models/Model-1B", None, True),
    "a folder that is called otherwise": ("/home/someone/models/checkpoint-500", None, False),
    "another model": ("org/Model-1B-it", None, False),
    "another model at a branch": ("org/Model-1B-it", "main", False),
    "the cache of the Hub": (f"/c/models--org--Model-1B/snapshots/{COMMIT}", None, True),
    "an older cache of the Hub": (f"/c/models--org--Model-1B/snapshots/{OTHER_COMMIT}", None, False),
    "embedded": ("embedded", SHA256, False),
    "a local copy with a sha256": ("/home/someone/Model-1B", SHA256, True),
    "none": (None, None, True),
    "empty": ("", None, True),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_hashes_of_one_kind_decide_which_base_is_meant_and_names_otherwise(
    name: str, adapter: Path
) -> None:
    base, revision, accepted = NAMES[name]
    settings(base_model_name_or_path=base, revision=revision)(adapter)
    files = read_adapter(adapter)
    location = ModelLocation("org/Model-1B", adapter, COMMIT)
    if accepted:
        check_base(files, location, ())
        return
    with pytest.raises(ModelError, match="was trained on"):
        check_base(files, location, ("another/name",))
    check_base(files, location, (str(base),))


def test_a_local_model_is_known_by_its_folder_or_its_sha256(adapter: Path, folder: Path) -> None:
    local = locate(str(folder))
    hub = {"base_model_name_or_path": "org/model", "revision": COMMIT}
    for changes in ({"base_model_name_or_path": f"{folder}/../{folder.name}"}, hub):
        settings(**changes)(adapter)
        check_base(read_adapter(adapter), local, ())
    moved = replace(local, name="/elsewhere/copy")
    with pytest.raises(ModelError, match="set allow_base to 'org/model'"):
        check_base(read_adapter(adapter), moved, ())
    settings(base_model_name_or_path="anything", revision=local.revision)(adapter)
    check_base(read_adapter(adapter), moved, ())


@pytest.mark.parametrize(
    ("own", "models", "message"),
    [
        ("{{ a }}", "{{ a }}\n", None),
        (None, "{{ a }}", None),
        ("{{ b }}", "{{ a }}", "differs from the model's; set chat to on .* or off"),
        ("{{ b }}", None, "that the model does not have; set chat to off"),
        ("{{ b }}", {"default": "{{ b }}", "tool_use": "{{ c }}"}, None),
    ],
)
def test_a_chat_template_of_its_own_is_rejected(
    own: str | None,
    models: str | dict[str, str] | None,
    message: str | None,
    adapter: Path,
    tokenizer: transformers.PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", models)
    (adapter / "tokenizer_config.json").write_text(json.dumps({"chat_template": own}))
    if message is None:
        check_chat_template(adapter, tokenizer)
    else:
        with pytest.raises(ModelError, match=message):
            check_chat_template(adapter, tokenizer)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {}}'])
def test_damaged_tokenizer_files_are_named(
    model: LanguageModel, adapter: Path, content: str
) -> None:
    (adapter / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer files of adapter .* cannot be read"):
        attach(model, adapter)
    (adapter / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter .*: tokenizer_config.json is not valid JSON"):
        check_chat_template(adapter, model.tokenizer)


def test_added_tokens_without_embeddings_are_accepted_with_a_warning(
    model: LanguageModel, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(model.location.folder / "tokenizer.json", adapter)
    (adapter / "added_tokens.json").write_text('{"<pad>": 512}')
    attach(model, adapter)
    assert "adds 1 tokens (first '<pad>'), which no prompt contains" in caplog.text
