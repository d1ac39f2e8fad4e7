"""LoRA as a GGUF file: names, values and the scale, and what has no place in one."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_adapters
from safetensors.torch import load_file

from isogloss.errors import ModelError
from scripts.gguf_adapter import write_adapter

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture
def adapter(model_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """LoRA of a tiny Gemma 3 on all linear layers of the blocks."""
    modules = [name.rpartition(".")[2] for name in NAMES]
    tiny_adapters.write_adapter(
        model_folder("gemma3"), tmp_path / "adapter", r=3, lora_alpha=12, target_modules=modules
    )
    return tmp_path / "adapter"


def test_every_factor_is_written_by_its_name(adapter: Path, tmp_path: Path):
    write_adapter(adapter, tmp_path / "tuned.gguf")
    reader = gguf.GGUFReader(tmp_path / "tuned.gguf")
    said = {name: reader.fields[name].contents() for name in reader.fields if "." in name}
    assert said["general.architecture"] == "gemma3"
    assert (said["general.type"], said["adapter.type"]) == ("adapter", "lora")
    assert said["adapter.lora.alpha"] == 12
    tensors = load_file(adapter / "adapter_model.safetensors")
    written = {tensor.name: tensor.data for tensor in reader.tensors}
    assert len(written) == len(tensors)
    for module, name in NAMES.items():
        for factor in "AB":
            key = f"base_model.model.model.layers.1.{module}.lora_{factor}.weight"
            values = written[f"blk.1.{name}.weight.lora_{factor.lower()}"]
            np.testing.assert_array_equal(values, tensors[key].numpy())


@pytest.mark.parametrize("option", ["use_dora", "use_rslora"])
def test_what_gguf_has_no_place_for_is_refused(option: str, adapter: Path, tmp_path: Path):
    tiny_adapters.change_config(adapter, lambda settings: settings.update({option: True}))
    with pytest.raises(ModelError, match=f"is LORA, {option} on gemma3_text; expected plain LoRA"):
        write_adapter(adapter, tmp_path / "tuned.gguf")
    assert not (tmp_path / "tuned.gguf").exists()
