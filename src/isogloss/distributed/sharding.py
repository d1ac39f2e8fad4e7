"""Sharding: the weights of a model too large for one device, distributed over all processes.

With PyTorch's FSDP2 or DeepSpeed's ZeRO-3, configured by the launcher: `accelerate launch` puts the
settings into the environment. Only the base model is sharded. Adapters are small and added later;
every process has them whole, and trains and saves them as without sharding.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from isogloss.compat.interfaces import CausalNetwork
from isogloss.compat.transformers import layer_classes
from isogloss.distributed import processes
from isogloss.errors import ConfigError

if TYPE_CHECKING:
    from accelerate.utils import DeepSpeedPlugin


@dataclass
class _State:
    deepspeed: "DeepSpeedPlugin | None" = None  # transformers checks that ZeRO-3's are alive
    mesh: DeviceMesh | None = None  # the devices of all processes, for FSDP


_state = _State()


@contextmanager
def sharded_loading() -> Iterator[None]:
    """Context in which all processes load a model that `shard` will distribute.

    Raises ConfigError for settings of the launcher that are not supported.
    """
    if not processes.sharded():
        yield
    elif processes.launcher_flag("ACCELERATE_USE_DEEPSPEED"):
        _state.deepspeed = _zero_3()  # each process loads only its part
        yield
    else:
        # Each process loads the whole model and keeps its part: one process at a time, because main
        # memory would have to hold one model per process otherwise.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        device = "cuda" if torch.cuda.is_available() else "cpu"
        _state.mesh = init_device_mesh(device, (processes.count(),))
        with processes.in_turn():
            yield


def shard(network: CausalNetwork) -> None:
    """Distribute the weights of a model that was loaded within `sharded_loading`."""
    if _state.deepspeed is not None:
        import deepspeed

        deepspeed.initialize(model=network, config=_state.deepspeed.dschf.config)
    else:
        _shard_by_layers(network)


def _zero_3() -> "DeepSpeedPlugin":
    from accelerate.utils import DeepSpeedPlugin

    plugin = DeepSpeedPlugin()
    if plugin.zero_stage != 3:
        raise ConfigError(
            f"zero_stage is {plugin.zero_stage} in the launcher's settings, but must be 3; models "
            "that fit one device need no DeepSpeed."
        )
    # The dtype in which `load` reads the weights.
    plugin.deepspeed_config["bf16"] = {"enabled": torch.cuda.is_available()}
    plugin.set_deepspeed_weakref()
    return plugin


def _shard_by_layers(network: CausalNetwork) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard

    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise ConfigError("fsdp_version is 1 in the launcher's settings, but must be 2.")
    if plugin.activation_checkpointing or isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        raise ConfigError(
            "fsdp_activation_checkpointing and fsdp_offload_params are not supported; leave them "
            "false."
        )
    names = plugin.transformer_cls_names_to_wrap or layer_classes(network)
    layers = [module for module in network.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(
            f"the model has no layers of class {', '.join(names) or '(unknown)'}; set "
            "fsdp_transformer_layer_cls_to_wrap to the classes of its layers."
        )
    for module in (*layers, cast(torch.nn.Module, network)):
        fully_shard(module, mesh=_state.mesh, reshard_after_forward=plugin.reshard_after_forward)
