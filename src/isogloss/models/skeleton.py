"""Skeletons: a model's network without its weights, by its config.json, to compare adapters with.

The weights of a model that a server holds may be on another machine.
"""

from typing import TYPE_CHECKING, cast

import torch

from isogloss.compat.interfaces import CausalNetwork
from isogloss.errors import ModelError
from isogloss.formatting import shortened
from isogloss.models.adapter_files import AdapterFiles, peft_config
from isogloss.models.adapter_weights import MisfitError, compare_tensors
from isogloss.models.architecture import check_architecture
from isogloss.models.locate import ModelLocation
from isogloss.models.model_files import LONGEST_REASON

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def skeleton(location: ModelLocation) -> CausalNetwork:
    """The network of a model on the `meta` device.

    Raises ModelError for an architecture that cannot be scored.
    """
    from transformers import AutoModelForCausalLM

    config = cast("PretrainedConfig", check_architecture(location))
    try:
        with torch.device("meta"):
            return cast(CausalNetwork, AutoModelForCausalLM.from_config(config))
    except Exception as error:  # whatever an architecture's own code raises for its values
        reason = shortened(" ".join(str(error).split()) or type(error).__name__, LONGEST_REASON)
        raise ModelError(
            f"model {location.name!r} has a config.json that transformers rejects ({reason})."
        ) from error


def require_fit(files: AdapterFiles, location: ModelLocation) -> None:
    """Raise ModelError unless every tensor of an adapter has a place in a model, and none lacks."""
    network = cast(torch.nn.Module, skeleton(location))
    try:
        compare_tensors(network, peft_config(files), files.tensors)
    except MisfitError as error:
        raise ModelError(f"{files.name} does not fit model {location.name!r}: {error}.") from error
