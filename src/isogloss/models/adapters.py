"""Adapters: saving, identifying, and attaching to a model."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from isogloss.compat.peft import fuse_lora
from isogloss.distributed import processes
from isogloss.errors import ModelError
from isogloss.files import file_sha256
from isogloss.models.language_model import LanguageModel
from isogloss.models.locate import ModelLocation

if TYPE_CHECKING:  # peft takes seconds to import
    from peft import PeftModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def save_adapter(peft_model: "PeftModel", folder: Path, location: ModelLocation) -> None:
    """Write an adapter in peft's layout, with the name and revision of its base, not its path."""
    peft_config = peft_model.peft_config["default"]
    peft_config.base_model_name_or_path = location.name
    peft_config.revision = location.revision
    # The default "auto" would look the base up on the Hub.
    peft_model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)


def adapter_digest(folder: Path) -> str:
    """Sha256 of an adapter's weights and configuration; ModelError if one is missing."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"adapter folder {str(folder)!r} has no {name}.")
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    for name, value in config.items():
        if isinstance(value, list):  # peft writes sets, in an order that differs by process
            config[name] = sorted(value, key=str)
    canonical = json.dumps(config, sort_keys=True)
    return hashlib.sha256(f"{file_sha256(folder / WEIGHTS)}\n{canonical}".encode()).hexdigest()


def attach(model: LanguageModel, folder: Path) -> str:
    """Load an adapter into a model and return its digest, the argument of `LanguageModel.using`.

    Raises ModelError if the adapter was trained on another model or revision, does not fit, or if
    layers of the model are offloaded.
    """
    if processes.count() == 1:
        return _attach(model, folder)
    # The files, because the folder may exist on this machine only.
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return processes.run_on_all(_attach_files, model, files)


def _attach_files(model: LanguageModel, files: Mapping[str, bytes]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return _attach(model, Path(folder))


def _attach(model: LanguageModel, folder: Path) -> str:
    from peft import PeftModel

    digest = adapter_digest(folder)
    if digest in model.adapters:
        return digest
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    trained_on = config.get("revision")
    if trained_on is not None and trained_on != model.location.revision:
        raise ModelError(
            f"adapter {str(folder)!r} was trained on {config.get('base_model_name_or_path')!r} at "
            f"{trained_on[:12]}, but the model is {model.location.name!r} at "
            f"{model.location.revision[:12]}."
        )
    if model.offloaded:
        raise ModelError(
            "device_map 'auto' has offloaded layers to CPU memory or disk, where they cannot have "
            "an adapter; use more GPU memory, or dtype nf4."
        )
    name = digest[:16]
    try:
        if model.peft_model is None:
            model.peft_model = PeftModel.from_pretrained(model.module, folder, adapter_name=name)
        else:
            model.peft_model.load_adapter(folder, adapter_name=name)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"adapter {str(folder)!r} does not fit model {model.location.name!r} ({reason})."
        ) from error
    fuse_lora(model.network, name)
    model.adapters[digest] = name
    return digest


def detach(model: LanguageModel) -> None:
    """Remove all adapters from the model."""
    if model.peft_model is not None:
        model.peft_model.unload()
        model.peft_model = None
        model.adapters.clear()
