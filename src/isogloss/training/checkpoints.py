"""Checkpoints: everything that decides the further steps of a training, in one safetensors file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from isogloss.distributed import processes
from isogloss.files import write_whole

CHECKPOINT = "checkpoint.safetensors"


class State:
    """Weights, optimiser, schedule and random state of a training under way.

    The order of the data is a function of seed and step, and so needs no room of its own.
    """

    def __init__(self, weights: Sequence[torch.Tensor], optimizer: Any, schedule: Any) -> None:
        self.weights = weights
        self.optimizer = optimizer
        self.schedule = schedule

    def save(self, folder: Path, **facts: Any) -> None:
        """Write the state and JSON `facts` to the folder, in place of an earlier state.

        The file appears whole or not at all.
        """
        optimizer = self.optimizer.state_dict()
        tensors = {f"weight/{at}": weight.detach() for at, weight in enumerate(self.weights)}
        for at, state in optimizer["state"].items():
            tensors |= {f"optimizer/{at}/{name}": value for name, value in state.items()}
        tensors["random/cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random/cuda"] = torch.cuda.get_rng_state()
        told = facts | {
            "optimizer": optimizer["param_groups"],
            "schedule": self.schedule.state_dict(),
        }
        whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_whole(folder / CHECKPOINT, save(whole, {"facts": json.dumps(told)}))

    def load(self, folder: Path) -> dict[str, Any] | None:
        """Go back to the state kept in the folder and return its facts; None if there is none.

        Of several processes the leading one reads it.
        """
        kept = processes.broadcast(_read(folder / CHECKPOINT) if processes.is_leader() else None)
        if kept is None:
            return None
        facts, tensors = kept
        states: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer/"):
                _, number, key = name.split("/")
                states.setdefault(int(number), {})[key] = tensor
        with torch.no_grad():
            for at, weight in enumerate(self.weights):
                weight.copy_(tensors[f"weight/{at}"])
        self.optimizer.load_state_dict({"state": states, "param_groups": facts.pop("optimizer")})
        self.schedule.load_state_dict(facts.pop("schedule"))
        torch.set_rng_state(tensors["random/cpu"])
        if "random/cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random/cuda"])
        return facts


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as kept:
        tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118
        return json.loads(kept.metadata()["facts"]), tensors
