"""Write a LoRA adapter as a GGUF file, as llama.cpp's server takes it.

    python -m scripts.gguf_adapter FOLDER tuned.gguf

FOLDER has what peft, and a finetune run, writes. For adapters of Gemma 3: other models want
llama.cpp's own convert_lora_to_gguf.py, which reorders rows where a model needs it.
"""

import json
from pathlib import Path

import click
import gguf
import numpy as np

from isogloss.errors import ModelError
from isogloss.models.adapter_files import AdapterFiles, read_adapter
from isogloss.models.locate import locate

PREFIX = "base_model.model."
MODEL_TYPE = "gemma3_text"
# What a GGUF adapter has no place for.
UNSUPPORTED = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")


def tensors_of(files: AdapterFiles, layers: int) -> dict[str, np.ndarray]:
    """The tensors of an adapter by their names in GGUF: A [rank, in], B [out, rank], float32.

    Raises ModelError for one that has no such name.
    """
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, layers)
    written = {}
    for key, tensor in files.tensors.items():
        module, _, factor = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".lora_")
        name = names.get_name(module)
        if name is None or factor not in ("A", "B"):
            raise ModelError(f"{files.name} has {key!r}, which GGUF has no name for.")
        written[f"{name}.weight.lora_{factor.lower()}"] = tensor.float().numpy()
    return written


def write_adapter(folder: Path, file: Path) -> None:
    """Write the adapter in a folder as a GGUF file; ModelError if it cannot be written as such."""
    files = read_adapter(folder)
    settings = files.settings
    base = str(settings["base_model_name_or_path"])
    shape = json.loads((locate(base).folder / "config.json").read_text())
    unsupported = [name for name in UNSUPPORTED if settings.get(name)]
    if settings["peft_type"] != "LORA" or unsupported or shape["model_type"] != MODEL_TYPE:
        what = ", ".join([settings["peft_type"], *unsupported])
        raise ModelError(
            f"{files.name} is {what} on {shape['model_type']}; expected plain LoRA on {MODEL_TYPE}."
        )
    tensors = tensors_of(files, shape["num_hidden_layers"])
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.GEMMA3])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(settings["lora_alpha"]))
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def main(folder: Path, file: Path) -> None:
    """Write the LoRA adapter in FOLDER as the GGUF file FILE."""
    try:
        write_adapter(folder, file)
    except ModelError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
