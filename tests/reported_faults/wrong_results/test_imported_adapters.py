"""A model with an adapter is never imported as a base model, nor the base as a tuned one."""

import json
from pathlib import Path
from typing import Any

import pytest
from imported_files import imported, inspect_log, lm_eval_folder

from isogloss.config import ImportConfig
from isogloss.errors import DataError
from isogloss.importers.read_results import read_results

TUNED = {"condition": "tuned", "source": "arb_Arab", "seed": 0}
ADAPTERS = [
    ("hf", {"pretrained": "m", "peft": "a"}, "peft"),
    ("hf", {"pretrained": "m", "delta": "d"}, "delta"),
    ("vllm", {"pretrained": "m", "enable_lora": True, "lora_local_path": "a"}, "lora_local_path"),
    ("vllm", "pretrained=m,enable_lora=True, lora_local_path=/a", "lora_local_path"),
    ("vllm-vlm", {"pretrained": "m", "lora_local_path": "a"}, "lora_local_path"),
    ("steered", {"pretrained": "m", "steer_path": "s.pt"}, "steer_path"),
    ("other", {"pretrained": "m", "lora_request": {"lora_name": "a"}}, "lora_request"),
    ("other", {"pretrained": "m", "adapter_name_or_path": "a"}, "adapter_name_or_path"),
    ("other", {"pretrained": "m", "lora_modules": ["a=b"]}, "lora_modules"),
]


@pytest.mark.parametrize(("backend", "args", "name"), ADAPTERS)
def test_an_adapter_of_lm_eval_is_not_a_base_model_and_is_tuned_under_the_name_of_its_base(
    backend: str, args: Any, name: str, tmp_path: Path
) -> None:
    path = lm_eval_folder(tmp_path, backend, args)
    for condition in ("base", "base+cot"):
        with pytest.raises(DataError, match=rf"has an adapter \({name}\), but condition is"):
            imported(path, condition=condition)
    ((run, _),) = read_results(ImportConfig(path=str(path), **TUNED)).items()
    assert (run.model, run.condition) == ("m", "tuned")


@pytest.mark.parametrize(
    ("backend", "args"),
    [
        ("hf", {"pretrained": "m", "peft": None, "delta": ""}),
        ("hf", "pretrained=m,peft=,dtype=auto"),
        ("hf", {"pretrained": "lora-land/adapter-free", "dtype": "float32"}),
        ("vllm", {"pretrained": "m", "enable_lora": False, "max_lora_rank": 16}),
        ("vllm", {"pretrained": "m", "lora_local_path": "None", "fully_sharded_loras": True}),
    ],
)
def test_settings_without_an_adapter_are_those_of_a_base_model(
    backend: str, args: Any, tmp_path: Path
) -> None:
    assert len(imported(lm_eval_folder(tmp_path, backend, args), condition="base")) == 4


@pytest.mark.parametrize("name", ["peft_sha", "delta_sha"])
def test_the_hash_of_an_adapter_in_the_results_counts(name: str, tmp_path: Path) -> None:
    path = lm_eval_folder(tmp_path, "hf", {"pretrained": "m"}, **{name: "abc"})
    with pytest.raises(DataError, match=rf"has an adapter \({name}\)"):
        imported(path, condition="base")


def test_a_folder_with_an_adapter_as_pretrained_is_not_a_base_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    samples = tmp_path / "samples"
    samples.mkdir()
    path = lm_eval_folder(samples, "hf", {"pretrained": str(tmp_path)})
    with pytest.raises(DataError, match=r"has an adapter \(pretrained\)"):
        imported(path, condition="base")


@pytest.mark.parametrize(
    ("backend", "args", "ignored"),
    [
        ("vllm", {"pretrained": "m", "enable_lora": True}, "any adapter if only enable_lora"),
        ("vllm", {"pretrained": "m", "peft": "a"}, "peft"),
        ("local-completions", {"model": "m", "base_url": "u", "peft": "a"}, "peft"),
        ("sglang", {"pretrained": "m", "lora_paths": ["a"]}, "lora_paths"),
    ],
)
def test_an_adapter_that_the_backend_ignored_is_not_tuned(
    backend: str, args: Any, ignored: str, tmp_path: Path
) -> None:
    path = lm_eval_folder(tmp_path, backend, args)
    with pytest.raises(DataError, match=rf"{backend} does not apply {ignored}.*of the base model"):
        imported(path, **TUNED)


def test_a_merged_checkpoint_is_tuned_with_any_backend(tmp_path: Path) -> None:
    path = lm_eval_folder(tmp_path, "vllm", {"pretrained": "merged"})
    assert len(imported(path, **TUNED)) == 4


def test_results_named_by_the_output_path_are_found(tmp_path: Path) -> None:
    path = lm_eval_folder(tmp_path, "vllm", {"pretrained": "m", "lora_local_path": "a"})
    (results,) = tmp_path.glob("results*.json")
    results.rename(results.with_name(results.name.replace("results_", "mine_")))
    for where in (path, tmp_path):
        with pytest.raises(DataError, match=r"has an adapter \(lora_local_path\)"):
            imported(where, condition="base")
    assert len(imported(tmp_path, **TUNED)) == 4


def test_samples_without_results_are_imported_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = lm_eval_folder(tmp_path)
    next(tmp_path.glob("results*")).unlink()
    assert len(imported(path, condition="base", model="m")) == 4
    assert "whether the model had an adapter is not checked" in caplog.text


@pytest.mark.parametrize("adapter", ["org/lora", "org/lora@v2", "/data/adapter", "preloaded"])
def test_an_adapter_of_vllm_in_inspect_is_not_a_base_model(adapter: str, tmp_path: Path) -> None:
    path = inspect_log(tmp_path, lambda log: log["eval"].update(model=f"vllm/org/base:{adapter}"))
    with pytest.raises(DataError, match="has an adapter"):
        imported(path, condition="base")
    ((run, _),) = read_results(ImportConfig(path=str(path), **TUNED)).items()
    assert run.model == "vllm/org/base"


def test_a_tag_of_ollama_in_inspect_is_no_adapter(tmp_path: Path) -> None:
    path = inspect_log(tmp_path, lambda log: log["eval"].update(model="ollama/llama3:8b"))
    ((run, _),) = read_results(ImportConfig(path=str(path), condition="base")).items()
    assert run.model == "ollama/llama3:8b"


def test_model_arguments_of_inspect_count(tmp_path: Path) -> None:
    def change(log: dict[str, Any]) -> None:
        log["eval"]["model_args"] = {"adapter_path": "a"}

    with pytest.raises(DataError, match=r"has an adapter \(adapter_path\)"):
        imported(inspect_log(tmp_path, change), condition="base")


def test_a_log_of_inspect_without_a_model_needs_its_name(tmp_path: Path) -> None:
    path = inspect_log(tmp_path, lambda log: log["eval"].update(model="none/none"))
    with pytest.raises(Exception, match="does not state its model"):
        imported(path, condition="base")
    assert json.loads(path.read_text())["eval"]["model"] == "none/none"
    assert len(imported(path, condition="base", model="m")) == 8
