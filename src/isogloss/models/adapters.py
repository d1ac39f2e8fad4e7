"""Adapters: saving, identifying, and attaching to a model."""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from isogloss.compat.peft import fuse_lora
from isogloss.distributed import processes
from isogloss.errors import ModelError
from isogloss.models.adapter_files import (
    AdapterFiles,
    adapter_digest,
    check_base,
    check_tokens,
    peft_config,
    read_adapter,
)
from isogloss.models.adapter_weights import MisfitError, insert, remove_layers
from isogloss.models.forward import finish_passes, hidden_states
from isogloss.models.language_model import LanguageModel
from isogloss.models.lm_head import logits
from isogloss.models.locate import ModelLocation
from isogloss.models.prefix_tree import TokenTree

if TYPE_CHECKING:  # peft takes seconds to import
    from peft import PeftModel

TRIED_TOKENS = 24  # in the pass that shows whether an adapter is applied
# Relative to the largest logit; multiplying by an identity leaves rounding errors below this.
SMALLEST_EFFECT = 1e-5
LARGEST_BASE_CHANGE = {torch.float32: 1e-3}  # relative norm; a head with LoRA rounds differently
LARGEST_ROUNDED_BASE_CHANGE = 0.05


def save_adapter(peft_model: "PeftModel", folder: Path, location: ModelLocation) -> None:
    """Write an adapter in peft's layout, with the name and revision of its base, not its path."""
    peft_config = peft_model.peft_config["default"]
    peft_config.base_model_name_or_path = location.name
    peft_config.revision = location.revision
    # The default "auto" would look the base up on the Hub.
    peft_model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)


def attach(model: LanguageModel, folder: Path, allow_base: Collection[str] = ()) -> str:
    """Load an adapter into a model and return its digest, the argument of `LanguageModel.using`.

    It takes the place of an adapter that was attached before. `allow_base` has names of base models
    that count as this model. Raises ModelError if the adapter was trained on another model or
    revision, does not fit, would not be applied (see `adapter_files`) or changes no output, and if
    layers of the model are offloaded.
    """
    if processes.count() == 1:
        return _attach(model, folder, allow_base)
    # The files, because the folder may exist on this machine only.
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return processes.run_on_all(_attach_files, model, files, tuple(allow_base), str(folder))


def _attach_files(
    model: LanguageModel, files: Mapping[str, bytes], allow_base: Collection[str], name: str
) -> str:
    with tempfile.TemporaryDirectory() as folder:
        for file, content in files.items():
            (Path(folder) / file).write_bytes(content)
        try:
            return _attach(model, Path(folder), allow_base)
        except ModelError as error:
            raise ModelError(str(error).replace(folder, name)) from error


def _attach(model: LanguageModel, folder: Path, allow_base: Collection[str]) -> str:
    digest = adapter_digest(folder)
    files = read_adapter(folder)
    check_base(files, model.location, allow_base)
    check_tokens(files, model.tokenizer)
    if digest in model.adapters:
        return digest
    if model.offloaded:
        raise ModelError(
            "device_map 'auto' has offloaded layers to CPU memory or disk, where they cannot have "
            "an adapter; use more GPU memory, or dtype nf4."
        )
    detach(model)
    tokens = _tokens_to_try(model, files)
    base_NV = _logits(model, None, tokens)
    name = digest[:16]
    try:
        model.peft_model, model.replacements = insert(
            model.module, peft_config(files), files.tensors, name
        )
    except MisfitError as error:
        raise ModelError(
            f"{files.name} does not fit model {model.location.name!r}: {error}."
        ) from error
    fuse_lora(model.network, name, cast_inputs=False)
    model.adapters[digest] = name
    try:
        _check_effect(model, digest, files, tokens, base_NV)
    except BaseException:
        detach(model)
        raise
    return digest


def _check_effect(
    model: LanguageModel, digest: str, files: AdapterFiles, tokens: list[int], base_NV: torch.Tensor
) -> None:
    """Raise ModelError unless scoring sees the adapter, and sees the base model without it."""
    switched_off_NV, tuned_NV = _logits(model, None, tokens), _logits(model, digest, tokens)
    limit = LARGEST_BASE_CHANGE.get(model.dtype, LARGEST_ROUNDED_BASE_CHANGE)
    if bool((switched_off_NV - base_NV).norm() > limit * base_NV.norm()):
        model.spoilt = f"{files.name} has changed the base model and cannot be switched off."
        raise ModelError(model.spoilt)
    if not bool(torch.isfinite(tuned_NV).all()):
        raise ModelError(f"{files.name} makes logits of {model.location.name!r} NaN or infinite.")
    effect = (tuned_NV - switched_off_NV).abs().max() / switched_off_NV.abs().max()
    if bool(effect <= SMALLEST_EFFECT):
        raise ModelError(
            f"{files.name} does not change the output of model {model.location.name!r}: it is "
            f"untrained or is not applied (largest change of a logit {effect:.1g} of the largest "
            "logit)."
        )


def _tokens_to_try(model: LanguageModel, files: AdapterFiles) -> list[int]:
    """Tokens from all of the vocabulary, and those that the adapter trains."""
    settings = files.settings
    trained = settings.get("trainable_token_indices") or settings.get("token_indices") or ()
    if isinstance(trained, dict):  # by module
        trained = [token for tokens in trained.values() for token in tokens]
    count = min(len(model.tokenizer), model.network.config.get_text_config().vocab_size)
    spread = [(count - 1) * at // TRIED_TOKENS for at in range(1, TRIED_TOKENS)]
    return [*(token for token in list(trained)[:TRIED_TOKENS] if 0 <= token < count), *spread]


@processes.no_gradients
def _logits(model: LanguageModel, digest: str | None, tokens: list[int]) -> torch.Tensor:
    """Logits [N, V] after each token, as scoring computes them."""
    tree = TokenTree()
    nodes = tree.insert(tokens)
    with model.using(digest):
        states_ND = hidden_states(model, [tree], [nodes], float32_head=True)
        logits_NV = logits(model, states_ND, float32_head=True).float()
    finish_passes(model)
    return logits_NV


def detach(model: LanguageModel) -> None:
    """Remove the adapter from the model."""
    if model.peft_model is not None:
        remove_layers(model.module)  # peft's `unload` keeps what the adapter has in full
        model.peft_model = None
        model.replacements = []
        model.adapters.clear()
