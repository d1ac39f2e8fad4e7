"""What a worker of each model asks of a Ray cluster: what the study states, else the cost model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from isogloss.config import StudyConfig
from isogloss.config.resources import Resources
from isogloss.config.study import StudyModel
from isogloss.formatting import size
from isogloss.launchers.needs import BESIDE_WEIGHTS
from isogloss.launchers.ray_cluster import Node
from isogloss.stages.dry_run import CellCost, dry_run
from isogloss.stages.model_costs import CARDS
from isogloss.stages.study_cells import study_models, study_sources

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Demand:
    """What one worker takes of a node as long as it lives; memory in bytes."""

    gpus: int
    cpus: int
    memory: int

    def fits(self, node: Node) -> bool:
        """Whether a node has so much, free or not."""
        return self.gpus <= node.gpus and self.cpus <= node.cpus and self.memory <= node.memory

    @property
    def text(self) -> str:
        """In words."""
        gpus = f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}, " if self.gpus else ""
        return f"{gpus}{self.cpus} CPU{'s' if self.cpus > 1 else ''}, {size(self.memory)}"


def demands(config: StudyConfig, cluster: Sequence[Node]) -> dict[str, Demand]:
    """What a worker of each model asks for, by the model's name."""
    stated = {
        model.name: (model.resources or Resources()).over(config.resources)
        for model in study_models(config)
    }
    unknown = [
        model
        for model in study_models(config)
        if stated[model.name].gpus is None or stated[model.name].memory_gb is None
    ]
    estimated = _estimates(config, unknown, cluster) if unknown else {}
    asked = {}
    for name, resources in stated.items():
        own = resources.over(estimated[name]) if name in estimated else resources
        asked[name] = Demand(own.gpus or 0, own.cpus or 1, ceil(1e9 * (own.memory_gb or 0)))
    return asked


def _estimates(
    config: StudyConfig, models: Sequence[StudyModel], cluster: Sequence[Node]
) -> dict[str, Resources]:
    """What the cost model says of models: those of a cluster without GPUs use processors."""
    first = study_sources(config)[0]
    few = config.model_copy(
        update={
            "models": None if config.models is None else tuple(models),
            "sources": (first.model_copy(update={"seeds": None}),),
            "control_source": None,
            "seeds": None,
        }
    )
    costs: dict[str, list[CellCost]] = {}
    for cost in dry_run(few).cells:
        costs.setdefault(cost.cell.config.model, []).append(cost)
    with_gpus = [node for node in cluster if node.gpus]
    estimates = {}
    for model in models:
        own = costs[model.name]
        engine = own[0].cell.config.engine
        if engine is not None and engine.serves and engine.train is None:
            estimates[model.name] = Resources(gpus=0, memory_gb=BESIDE_WEIGHTS / 1e9)
        elif with_gpus:
            estimates[model.name] = _on_gpus(model.name, own, with_gpus)
        else:
            peak = max((cost.memory or 0.0 for cost in own), default=0.0)
            estimates[model.name] = Resources(gpus=0, memory_gb=peak / 1e9 or None)
    return estimates


def _on_gpus(name: str, costs: Sequence[CellCost], nodes: Sequence[Node]) -> Resources:
    """The GPUs that hold all cells of a model, by the smallest kind that the cluster has."""
    kinds = [card.name for card in CARDS]
    accelerators = {node.accelerator for node in nodes}
    card = next((kinds.index(kind) for kind in kinds if accelerators == {kind}), 0)
    if not accelerators <= set(kinds):
        logger.warning(
            f"GPUs of the cluster are taken to have the memory of an {kinds[card]}; if that is "
            f"wrong, state `resources: {{gpus: ...}}` in the study file"
        )
    needed = [cost.gpus[card] for cost in costs]
    gpus = max((count or 1 for count in needed), default=1)
    config = costs[0].cell.config
    if gpus > 1 and config.device_map == "none":
        logger.warning(
            f"model {name!r} needs {gpus} GPUs by estimate, but its device_map is 'none': it gets "
            "one; set device_map to 'auto'"
        )
        gpus = 1
    weights = max((cost.weights or 0.0 for cost in costs), default=0.0)
    return Resources(gpus=gpus, memory_gb=(weights + BESIDE_WEIGHTS) / 1e9)
