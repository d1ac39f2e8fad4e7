"""Sharding: a model too large for one device, its weights spread over those of all processes.

This is PyTorch's FSDP2 or DeepSpeed's ZeRO-3, with the settings of the launcher, as `accelerate
launch` sets them in the environment. Only the base model is spread: adapters, which are small and
come into it later, are whole in each process, and so are trained and saved as they are without it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh

from isogloss.compat.transformers import layer_classes
from isogloss.distributed import processes
from isogloss.errors import ConfigError

_deepspeed: list[Any] = []  # transformers looks whether ZeRO-3's settings are alive
_mesh: list[Any] = []  # the devices of all processes, for FSDP


@contextmanager
def sharded_loading() -> Iterator[None]:
    """Context in which the processes read a model, which `shard` is to spread.

    ConfigError if the launcher asks for what cannot be had here.
    """
    if not processes.sharded():
        yield
    elif processes.launcher_flag("ACCELERATE_USE_DEEPSPEED"):
        _deepspeed[:] = [_zero_3()]  # each process reads but its part
        yield
    else:
        # Each process reads the whole model, and keeps its part: one at a time, or main memory
        # would have to hold as many models as there are processes.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        device = "cuda" if torch.cuda.is_available() else "cpu"
        _mesh[:] = [init_device_mesh(device, (processes.count(),))]
        with processes.in_turn():
            yield


def shard(network: Any) -> None:
    """Spread the weights of a model that was read within `sharded_loading`."""
    if _deepspeed:
        import deepspeed

        deepspeed.initialize(model=network, config=_deepspeed[0].dschf.config)
    else:
        _shard_by_layers(network)


def _zero_3() -> Any:
    from accelerate.utils import DeepSpeedPlugin

    plugin = DeepSpeedPlugin()
    if plugin.zero_stage != 3:
        raise ConfigError(
            f"zero_stage is {plugin.zero_stage} in the launcher's settings; 3 is what works here. "
            f"Models that fit one device need no DeepSpeed."
        )
    plugin.deepspeed_config["bf16"] = {"enabled": torch.cuda.is_available()}  # as `load` reads it
    plugin.set_deepspeed_weakref()
    return plugin


def _shard_by_layers(network: Any) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard

    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise ConfigError("fsdp_version is 1 in the launcher's settings; 2 is what works here.")
    if plugin.activation_checkpointing or isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        raise ConfigError(
            "fsdp_activation_checkpointing and fsdp_offload_params do not work here; leave them "
            "false."
        )
    names = plugin.transformer_cls_names_to_wrap or layer_classes(network)
    layers = [module for module in network.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(
            f"the model has no layers {', '.join(names) or 'that are known'}; "
            f"fsdp_transformer_layer_cls_to_wrap names those that are to be spread."
        )
    for module in (*layers, network):
        fully_shard(module, mesh=_mesh[0], reshard_after_forward=plugin.reshard_after_forward)
