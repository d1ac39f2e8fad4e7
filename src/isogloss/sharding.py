"""Sharding: a model too large for one device, its weights spread over those of all processes.

This is PyTorch's FSDP2, with the settings of the launcher (`ACCELERATE_USE_FSDP` and `FSDP_*`, as
`accelerate launch` sets them). Only the base model is spread: adapters, which are small and come
into it later, are whole in each process, and so are trained and saved as they are without it.
"""

from typing import Any

from isogloss import processes
from isogloss.errors import ConfigError


def shard(network: Any) -> Any:
    """Spread the weights that the leading process has read, layer by layer, over all devices.

    ConfigError if the launcher asks for what cannot be had here.
    """
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.fsdp import fully_shard

    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise ConfigError("fsdp_version is 1 in the launcher's settings; 2 is what works here.")
    if plugin.activation_checkpointing:
        raise ConfigError("fsdp_activation_checkpointing is not supported; leave it false.")
    names = plugin.transformer_cls_names_to_wrap or list(network._no_split_modules or ())
    layers = [module for module in network.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(
            f"the model has no layers {', '.join(names) or 'that are known'}; "
            f"fsdp_transformer_layer_cls_to_wrap names those that are to be spread."
        )
    # The others have read nothing: see is_fsdp_enabled in transformers.
    whole = network.state_dict() if processes.leads() else {}
    for module in (*layers, network):
        fully_shard(
            module,
            offload_policy=plugin.cpu_offload,
            reshard_after_forward=plugin.reshard_after_forward,
        )
    set_model_state_dict(
        network, whole, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    )
    return network
