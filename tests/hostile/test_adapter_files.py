"""Damaged files of adapters: refused in one sentence, before a run is open."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_adapters import write_adapter

from hostile.test_model_files import LONGEST, cut, edit, write
from isogloss.config import EvaluateConfig
from isogloss.errors import IsoglossError
from isogloss.stages.evaluate_adapters import run_evaluate
from isogloss.training.contamination import RECORD

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], object]:
    """Change the weights."""

    def apply(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        changed = change(weights)
        save_file(changed if changed is not None else weights, folder / WEIGHTS)

    return apply


def fill(value: float) -> Callable[[Path], object]:
    return tensors(
        lambda weights: {key: torch.full_like(tensor, value) for key, tensor in weights.items()}
    )


def drop_one(weights: dict[str, torch.Tensor]) -> None:
    del weights[min(weights)]


def narrow(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor[:, :1].contiguous() for key, tensor in weights.items()}


WHOLE_RECORD = {"task": "probe", "language": "arb_Arab", "passages": {}}
DAMAGE: dict[str, Callable[[Path], object]] = {
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "empty config": write(CONFIG, b""),
    "config cut": cut(CONFIG, 0.5),
    "config is a list": write(CONFIG, b"[]"),
    "config is text": write(CONFIG, b'"LORA"'),
    "config in UTF-16": write(CONFIG, '{"peft_type": "LORA"}'.encode("utf-16")),
    "config nested": write(CONFIG, b'{"a":' * 5000),
    "no peft_type": edit(CONFIG, peft_type=None),
    "unknown peft_type": edit(CONFIG, peft_type="NONSENSE"),
    "peft_type is a list": edit(CONFIG, peft_type=["LORA"]),
    "another task": edit(CONFIG, task_type="SEQ_CLS"),
    "task_type is a list": edit(CONFIG, task_type=["CAUSAL_LM"]),
    "init_lora_weights is a list": edit(CONFIG, init_lora_weights=["gaussian"]),
    "rank 0": edit(CONFIG, r=0),
    "negative rank": edit(CONFIG, r=-4),
    "another rank": edit(CONFIG, r=3),
    "rank of text": edit(CONFIG, r="four"),
    "huge rank": edit(CONFIG, r=10**9),
    "huge alpha": edit(CONFIG, lora_alpha=10**400),
    "target_modules is a number": edit(CONFIG, target_modules=7),
    "target_modules that do not exist": edit(CONFIG, target_modules=["nothing"]),
    "target_modules is no pattern": edit(CONFIG, target_modules="((("),
    "no target_modules": edit(CONFIG, target_modules=[]),
    "layers by pattern, without their numbers": edit(CONFIG, layers_pattern="layers"),
    **{
        f"{option} is {value!r}": edit(CONFIG, **{option: value})
        for option in ("arrow_config", "eva_config", "use_bdlora")
        for value in ([], "text")
    },
    "another base": edit(CONFIG, base_model_name_or_path="some/other-model"),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "empty weights": write(WEIGHTS, b""),
    "weights cut": cut(WEIGHTS, 0.5),
    "weights of noise": write(WEIGHTS, bytes(range(256)) * 40),
    "no tensors": tensors(lambda weights: {}),
    "zeros": fill(0.0),
    "NaN": fill(float("nan")),
    "infinite": fill(float("inf")),
    "a tensor missing": tensors(drop_one),
    "tensors of other shapes": tensors(narrow),
    "pickle only": lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"),
    "record cut": write(RECORD, json.dumps(WHOLE_RECORD).encode()[:20]),
    "record is a list": write(RECORD, b"[]"),
    "record of other keys": write(RECORD, b'{"task": "probe", "nonsense": 1}'),
    "record without a language": write(RECORD, b'{"task": "probe", "passages": {}}'),
    "record with passages of a list": write(
        RECORD, json.dumps(WHOLE_RECORD | {"passages": ["a"]}).encode()
    ),
    "record with a language of a number": write(
        RECORD, json.dumps(WHOLE_RECORD | {"language": 7}).encode()
    ),
    "tokenizer cut": write("tokenizer.json", b'{"model": {"vocab"'),
    "tokenizer is a list": write("tokenizer.json", b"[]"),
    "tokenizer nested": write("tokenizer.json", b'{"a":' * 5000),
    "template in Latin-1": write("chat_template.jinja", "é".encode("latin-1")),
    "templates are numbers": write("tokenizer_config.json", b'{"chat_template": [1]}'),
}


@pytest.fixture(scope="module")
def adapter(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "whole"
    write_adapter(model_folder("llama"), folder, r=4, target_modules=["q_proj", "v_proj"])
    return folder


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_adapter_is_refused(
    damage: Callable[[Path], object],
    adapter: Path,
    model_folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(adapter, folder)
    damage(folder)
    config = EvaluateConfig(
        model=str(model_folder("llama")),
        adapter=(str(folder),),
        languages=("heb_Hebr",),
        source="arb_Arab",
        limit=1,
    )
    with pytest.raises(IsoglossError) as caught:
        run_evaluate(config)
    message = str(caught.value)
    assert "adapter" in message
    assert len(message) < LONGEST
    assert mlflow.search_runs(search_all_experiments=True).empty
