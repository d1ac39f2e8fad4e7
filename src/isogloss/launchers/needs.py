"""What the cells of a study need of the machines that run them, by the cost model."""

from dataclasses import dataclass

from isogloss.config import StudyConfig
from isogloss.stages.dry_run import CellCost, dry_run
from isogloss.stages.model_costs import CARDS
from isogloss.stages.study_cells import StudyCell

BESIDE_WEIGHTS = 8e9  # bytes of main memory: libraries, data, CUDA, buffers of loading


@dataclass(frozen=True)
class Needs:
    """GPUs, bytes of main memory and hours of a cell; None where the model's shape is unknown.

    Hours are those on H100s. `gpus` is also None for a model that no 64 of them hold.
    """

    gpus: int | None
    memory: float | None
    hours: float | None


def cell_needs(
    config: StudyConfig, card: str = CARDS[0].name, experiment: str | None = None
) -> dict[StudyCell, Needs]:
    """What each cell of a study needs on GPUs of a kind, `card`, one of CARDS.

    Main memory holds the weights once while they are loaded.
    """
    position = [known.name for known in CARDS].index(card)
    return {cost.cell: _needs(cost, position) for cost in dry_run(config, experiment).cells}


def _needs(cost: CellCost, position: int) -> Needs:
    memory = None if cost.weights is None else cost.weights + BESIDE_WEIGHTS
    return Needs(cost.gpus[position], memory, cost.hours_h100)
