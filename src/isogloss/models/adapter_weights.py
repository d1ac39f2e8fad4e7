"""Weights of an adapter: put into a network whole, or not at all.

peft loads what it finds and warns about the rest. Here every tensor of the file has a place in the
network, and every tensor that peft has added gets its value from the file.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:  # peft takes seconds to import
    from peft import PeftConfig, PeftModel

logger = logging.getLogger(__name__)

FIRST = "base_model.model."  # peft's prefix of every key
# Prefixes of keys under one class of a model, and under another class of the same model.
PREFIXES = (
    ("model.language_model.", "model."),  # ...ForConditionalGeneration
    ("language_model.model.", "model."),  # the same before transformers 4.52
    ("model.", "model.language_model."),
    ("model.", "language_model.model."),
    (FIRST, ""),  # wrapped twice
)
PARTS = ("_orig_mod.", "module.")  # of compiled and of distributed modules
SHOWN = 3  # keys in a message
OWN_EMBEDDING_ERROR = 1e-2  # relative, between copies of an embedding in two dtypes


@dataclass(frozen=True)
class Replacement:
    """A bias of the base model, and its value under the adapter."""

    parameter: torch.nn.Parameter
    value: torch.Tensor


class MisfitError(Exception):
    """Why an adapter does not fit a network, as a clause."""


def insert(
    network: torch.nn.Module, config: "PeftConfig", tensors: Mapping[str, torch.Tensor], name: str
) -> tuple["PeftModel", list[Replacement]]:
    """Add an adapter to a network; return peft's model, and the biases that belong to the adapter.

    peft would write biases into the base model and could not switch them off. Raises MisfitError if
    a tensor has no place or another shape, or if one is missing; the network is unchanged then.
    """
    from peft import PeftModel

    base = dict(network.named_parameters(remove_duplicate=False))
    before = {id(tensor) for _, tensor in _tensors(network)}
    bias = getattr(config, "bias", "none")
    if bias != "none":
        setattr(config, "bias", "none")  # noqa: B010 (not an attribute of every method)
    config.inference_mode = True
    if hasattr(config, "init_lora_weights"):
        config.init_lora_weights = True  # the values come from the file
    try:
        peft_model = PeftModel(network, config, adapter_name=name)
        own, from_base = _split(tensors, _expected(peft_model, name), base)
        _load(peft_model, own, name, before)
        required = _trained_biases(peft_model, base, bias)
        return peft_model, _replacements(from_base, base, required, bias)
    except MisfitError:
        remove_layers(network)
        raise
    except Exception as error:  # whatever peft raises for a configuration that it does not check
        remove_layers(network)
        reason = f"no tensor {error}" if isinstance(error, KeyError) else str(error)
        raise MisfitError(" ".join(reason.split())[:500].rstrip(".")) from error


def compare_tensors(
    network: torch.nn.Module, config: "PeftConfig", tensors: Mapping[str, torch.Tensor]
) -> None:
    """Raise MisfitError if `insert` would for names and shapes; the network may have no weights.

    The network has the adapter's layers afterwards.
    """
    from peft import PeftModel

    base = dict(network.named_parameters(remove_duplicate=False))
    config.inference_mode = True
    if hasattr(config, "init_lora_weights"):
        config.init_lora_weights = True
    try:
        expected = _expected(PeftModel(network, config), "default")
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise MisfitError(" ".join(str(error).split())[:500].rstrip(".")) from error
    own, _ = _split(tensors, expected, base)
    if left := sorted(own.keys() - expected.keys()):
        raise MisfitError(
            f"{len(left)} of its {len(own)} tensors have no place in the model, {_some(left)}"
        )
    if missing := sorted(expected.keys() - own.keys()):
        raise MisfitError(f"{len(missing)} tensors are missing from its file, {_some(missing)}")


def remove_layers(network: torch.nn.Module) -> None:
    """Put the base layers back in place of all that peft has wrapped around them.

    peft's `unload` leaves the adapter's own copies of `modules_to_save` in the model.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for module in list(network.modules()):
        for child_name, child in list(module.named_children()):
            original = child
            while isinstance(original, BaseTunerLayer | AuxiliaryTrainingWrapper):
                if isinstance(original, BaseTunerLayer):
                    original = original.get_base_layer()
                else:
                    original = original.original_module
            if original is not child:
                setattr(module, child_name, original)
    if hasattr(network, "peft_config"):  # else the next adapter would count as a second one
        del network.peft_config


def _tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    )


def _expected(peft_model: "PeftModel", name: str) -> dict[str, torch.Tensor]:
    """The tensors that peft would write for the adapter, by their keys in a file."""
    from peft import get_peft_model_state_dict

    state: dict[str, torch.Tensor] = get_peft_model_state_dict(
        peft_model, adapter_name=name, save_embedding_layers=False
    )
    return state


def _split(
    tensors: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    base: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The adapter's own tensors by peft's keys, and those that the base model has, by its names."""
    tensors = _renamed(tensors, expected.keys(), base.keys())
    own, from_base = {}, {}
    for key, tensor in tensors.items():
        if key not in expected and (base_name := _base_name(key)) in base:
            from_base[base_name] = tensor
        else:
            own[key] = tensor
    other = [
        f"{key}: {tuple(tensor.shape)}, in the model {tuple(expected[key].shape)}"
        for key, tensor in own.items()
        if key in expected and tensor.shape != expected[key].shape
    ]
    if other:
        raise MisfitError(
            f"{len(other)} of its {len(own)} tensors have other shapes, {_some(other)}"
        )
    return own, from_base


def _base_name(key: str) -> str:
    """The name in the base model of a key that does not belong to the adapter's own layers."""
    return key.removeprefix(FIRST).replace(".base_layer.", ".")


def _renamed(
    tensors: Mapping[str, torch.Tensor], expected: Collection[str], base: Collection[str]
) -> Mapping[str, torch.Tensor]:
    """The tensors under keys with another prefix, if that explains every one of them."""

    def explained(keys: Mapping[str, str]) -> bool:
        new = set(keys.values())
        foreign = [key for key in new.difference(expected) if _base_name(key) not in base]
        return len(new) == len(keys) and not foreign and new.issuperset(expected)

    same = {key: key for key in tensors}
    if explained(same):
        return tensors
    stripped = {key: key for key in tensors}
    for part in PARTS:
        stripped = {key: new.replace(part, "") for key, new in stripped.items()}
    for old, new in (("", ""), *PREFIXES):
        keys = {
            key: FIRST + new + start.removeprefix(FIRST).removeprefix(old)
            for key, start in stripped.items()
            if start.startswith(FIRST + old)
        } | {
            key: start
            for key, start in stripped.items()
            if not start.startswith(FIRST + old)  # such as the head, outside of the renamed part
        }
        if explained(keys):
            first = next(key for key in tensors if keys[key] != key)
            logger.info(f"adapter keys are renamed to the model's ({first} is {keys[first]})")
            return {keys[key]: tensor for key, tensor in tensors.items()}
    return tensors


def _load(
    peft_model: "PeftModel", own: Mapping[str, torch.Tensor], name: str, before: Collection[int]
) -> None:
    """Load the adapter's own tensors; MisfitError if one is left over or missing."""
    from peft import set_peft_model_state_dict

    result: Any = set_peft_model_state_dict(
        peft_model, dict(own), adapter_name=name
    )  # a namedtuple
    if result.unexpected_keys:
        keys = [key.replace(f".{name}", "") for key in result.unexpected_keys]
        raise MisfitError(
            f"{len(keys)} of its {len(own)} tensors have no place in the model, {_some(keys)}"
        )
    # AdaLoRA sets `ranknum` from its configuration and does not save it.
    not_loaded = {key for key in result.missing_keys if ".ranknum." not in key}
    names_of: dict[int, list[str]] = defaultdict(list)  # methods share tensors between layers
    for key, tensor in _tensors(peft_model):
        if id(tensor) not in before:
            names_of[id(tensor)].append(key)
    missing = [
        names[0].replace(f".{name}", "")
        for names in names_of.values()
        if not_loaded.issuperset(names)
    ]
    if missing:
        raise MisfitError(f"{len(missing)} tensors are missing from its file, {_some(missing)}")


def _trained_biases(
    peft_model: "PeftModel", base: Mapping[str, torch.Tensor], bias: str
) -> set[str]:
    """The names of the base model's biases that peft trains with this value of `bias`."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if bias == "none":
        return set()
    biases = {name for name in base if name.endswith("bias")}
    if bias == "all":
        return biases
    layers = (module for module in peft_model.modules() if isinstance(module, BaseTunerLayer))
    targeted = {id(getattr(layer.get_base_layer(), "bias", None)) for layer in layers}
    return {name for name in biases if id(base[name]) in targeted}


def _replacements(
    from_base: Mapping[str, torch.Tensor],
    base: Mapping[str, torch.nn.Parameter],
    required: Collection[str],
    bias: str,
) -> list[Replacement]:
    """The adapter's values of biases; MisfitError for other base weights that it would change."""
    replacements = []
    for name, value in from_base.items():
        parameter = base[name]
        if value.shape != parameter.shape:
            raise MisfitError(
                f"{name} is {tuple(value.shape)}, in the model {tuple(parameter.shape)}; an "
                "adapter with tokens of its own must be merged into its model first"
            )
        value = value.to(parameter.device, parameter.dtype)
        if name in required:
            replacements.append(Replacement(parameter, value))
        elif (value - parameter).norm() > OWN_EMBEDDING_ERROR * parameter.norm():
            raise MisfitError(f"its {name} is not that of the model")
    if missing := sorted(set(required).difference(from_base)):
        raise MisfitError(
            f"its bias is {bias!r}, but {len(missing)} of these are missing from its file, "
            f"{_some(missing)}"
        )
    return replacements


def _some(entries: list[str]) -> str:
    """The first entries, in the words of a message."""
    return f"first {'; '.join(entries[:SHOWN])}"
