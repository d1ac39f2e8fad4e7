"""Which cells of a study can be run now: adapters are trained first, lost cells are tried again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from isogloss.stages.study_cells import EvaluateCell, StudyCell


class Loss(Enum):
    """How a cell lost its worker: the process ended, or its whole machine went away."""

    WORKER = auto()
    NODE = auto()


# Attempts of a cell that end in a loss of that kind. A machine that is taken away says little of
# the cell; a process that is killed again and again says that it does not fit.
MOST_ATTEMPTS = {Loss.WORKER: 3, Loss.NODE: 10}


@dataclass
class CellQueue:
    """The cells of a study: waiting for their adapter, ready, running, done or failed.

    `failed` has a reason for each cell that will not be run (again).
    """

    waiting: list[StudyCell]
    failed: dict[StudyCell, str] = field(default_factory=dict)
    running: set[StudyCell] = field(default_factory=set)
    done: set[StudyCell] = field(default_factory=set)
    losses: Counter[tuple[StudyCell, Loss]] = field(default_factory=Counter)

    @classmethod
    def of(cls, cells: Sequence[StudyCell], unusable: Mapping[StudyCell, str]) -> "CellQueue":
        """All cells but those that are known to be `unusable`, with the reasons."""
        queue = cls([cell for cell in cells if cell not in unusable], dict(unusable))
        queue._drop_without_adapter()
        return queue

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.waiting and not self.running

    @property
    def left(self) -> int:
        """The number of cells that are not done and have not failed."""
        return len(self.waiting) + len(self.running)

    def models(self) -> list[str]:
        """The models with cells left, in the order of the study."""
        return list(dict.fromkeys(cell.config.model for cell in self.waiting))

    def ready(self, model: str) -> list[StudyCell]:
        """The cells of a model that can be run now."""
        return [cell for cell in self.waiting if cell.config.model == model and self._trained(cell)]

    def take(self, model: str) -> StudyCell | None:
        """The next cell of a model, which is running from now on; None if none is ready."""
        ready = self.ready(model)
        if not ready:
            return None
        self.waiting.remove(ready[0])
        self.running.add(ready[0])
        return ready[0]

    def finish(self, cell: StudyCell) -> None:
        """Record that a running cell is done."""
        self.running.remove(cell)
        self.done.add(cell)

    def fail(self, cell: StudyCell, reason: str) -> None:
        """Record why a running cell is not run again; evaluations of its adapter fail with it."""
        self.running.remove(cell)
        self.failed[cell] = reason
        self._drop_without_adapter()

    def fail_model(self, model: str, reason: str) -> None:
        """Give up the waiting cells of a model."""
        self.failed |= {cell: reason for cell in self.waiting if cell.config.model == model}
        self.waiting = [cell for cell in self.waiting if cell.config.model != model]

    def lose(self, cell: StudyCell, loss: Loss, reason: str) -> bool:
        """Whether a running cell that lost its worker is tried again, after the other cells."""
        self.losses[cell, loss] += 1
        if self.losses[cell, loss] < MOST_ATTEMPTS[loss]:
            self.running.remove(cell)
            self.waiting.append(cell)
            return True
        self.fail(cell, f"{reason}, in each of {self.losses[cell, loss]} attempts.")
        return False

    def _trained(self, cell: StudyCell) -> bool:
        """Whether the adapter that a cell evaluates is there."""
        return (
            not isinstance(cell, EvaluateCell)
            or cell.finetuned is None
            or cell.finetuned in self.done
        )

    def _drop_without_adapter(self) -> None:
        """Give up evaluations of adapters whose fine-tuning has failed."""
        for cell in list(self.waiting):
            if isinstance(cell, EvaluateCell) and cell.finetuned in self.failed:
                self.waiting.remove(cell)
                self.failed[cell] = (
                    f"its adapter is missing, because {cell.finetuned.label!r} failed."
                )
