"""The remaining time of a study: weights of its cells by the cost model, and measured speed.

The cost model says how cells compare, and the cells that were computed how fast this machine is.
Nothing is said before something was measured.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from isogloss.config import StudyConfig
from isogloss.costs.time import H100
from isogloss.errors import IsoglossError
from isogloss.formatting import duration
from isogloss.stages.dry_run import cell_seconds, count_items, item_work, reasoning_of
from isogloss.stages.model_costs import ModelFacts, machine_here, model_facts
from isogloss.stages.progress import study_report
from isogloss.stages.session import Session
from isogloss.stages.study_cells import EvaluateCell, StudyCell, study_models
from isogloss.stages.task_data import evaluation_data

logger = logging.getLogger(__name__)

LEAST_SHARE = 0.02  # of a cell, from which its speed is taken
COMPARISON = 10.0  # seconds of comparison and report: 4 in the demo, 27 beside other programs
LEAST_PART = 0.05  # of a cell's weight that another kind must have been measured on

Weights = Mapping[StudyCell, float]


@dataclass
class Remaining:
    """What is left of a study; `weigh` gives the weight of each cell when it is first needed.

    `now` is a clock in seconds. `afterwards` are those that follow the last cell.
    """

    cells: Sequence[StudyCell]
    weigh: Callable[[], Weights]
    now: Callable[[], float] = time.monotonic
    afterwards: float = COMPARISON
    left: dict[StudyCell, None] = field(init=False)
    measured: dict[str, tuple[float, float]] = field(default_factory=dict)  # seconds and weight
    running: dict[StudyCell, tuple[float, float]] = field(default_factory=dict)  # since, share then
    shares: dict[StudyCell, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.left = dict.fromkeys(self.cells)

    @cached_property
    def weights(self) -> Weights:
        """The weight of each cell."""
        return self.weigh()

    def start(self, cell: StudyCell, share: float = 0.0, seconds: float = 0.0) -> None:
        """A cell began so many `seconds` ago, or resumed where a `share` of it was done before."""
        self.running[cell] = (self.now() - seconds, share)
        self.shares[cell] = share

    def reach(self, cell: StudyCell, share: float) -> None:
        """A share of a running cell is done."""
        self.shares[cell] = share

    def finish(self, cell: StudyCell, *, computed: bool = True) -> None:
        """A cell is done; one that was not `computed`, but reused or lost, tells no speed."""
        since, share = self.running.pop(cell, (self.now(), 1.0))
        self.shares.pop(cell, None)
        self.left.pop(cell, None)
        if computed and share < 1:
            seconds, weight = self.measured.get(_kind(cell), (0.0, 0.0))
            part = self.weights[cell] * (1 - share)
            self.measured[_kind(cell)] = (seconds + self.now() - since, weight + part)

    def seconds(self, workers: int = 1) -> float | None:
        """Seconds until the study is done by so many workers; None before a speed is known.

        A kind of cell that was not measured yet is as fast as the other kind, by the weights. A
        cell of seconds, most of which are not its work, tells nothing of one with far more work.
        """
        measured = dict(self.measured)
        for cell, (since, begun) in self.running.items():
            share = self.shares[cell] - begun
            if share >= LEAST_SHARE:
                seconds, weight = measured.get(_kind(cell), (0.0, 0.0))
                measured[_kind(cell)] = (
                    seconds + self.now() - since,
                    weight + self.weights[cell] * share,
                )
        weight = sum(each[1] for each in measured.values())
        if not weight:
            return None
        speed = sum(each[0] for each in measured.values()) / weight
        speeds = {kind: own / of for kind, (own, of) in measured.items() if of}
        others = [self.weights[cell] for cell in self.left if _kind(cell) not in speeds]
        if weight < LEAST_PART * max(others, default=0.0):
            return None
        left = {cell: self._left(cell, speeds.get(_kind(cell), speed)) for cell in self.left}
        # An evaluation waits for its adapter, however many workers there are.
        chains = (
            seconds + left.get(cell.finetuned, 0.0)
            if isinstance(cell, EvaluateCell) and cell.finetuned
            else seconds
            for cell, seconds in left.items()
        )
        return max([sum(left.values()) / workers, *chains]) + self.afterwards

    def _left(self, cell: StudyCell, speed: float) -> float:
        """Seconds that a cell takes still; one that runs and tells no share is on time."""
        share = self.shares.get(cell, 0.0)
        seconds = self.weights[cell] * (1 - share) * speed
        since, begun = self.running.get(cell, (self.now(), share))
        return seconds if share > begun else max(seconds - (self.now() - since), 0.0)

    def words(self, workers: int = 1) -> str:
        """What is left, as the end of a line of progress; empty if it is not known."""
        seconds = self.seconds(workers) if self.left or self.afterwards else None
        if seconds is None:
            return ""
        return f"; about {duration(seconds)} of the study left"


def _kind(cell: StudyCell) -> str:
    return type(cell).__name__


def study_weights(
    config: StudyConfig, cells: Sequence[StudyCell], sessions: Mapping[str, Session]
) -> dict[StudyCell, float]:
    """The time of each cell by the cost model, or its number of items where that is unknown.

    Reads data and tokenizers. Only the proportions of the weights mean something.
    """
    facts = {
        model.name: ModelFacts(None, None) if sessions[model.name].served else model_facts(model)
        for model in study_models(config)
    }
    base = next(cell for cell in cells if isinstance(cell, EvaluateCell))
    try:
        task, items = evaluation_data(base.config)
        works = {
            (name, reasoning): item_work(cell, sessions[name], facts[name], task, items)
            for (name, reasoning), cell in _one_each(cells).items()
        }
    except IsoglossError as error:  # found by the cells themselves
        logger.debug("cells have no weights", exc_info=error)
        return dict.fromkeys(cells, 1.0)
    counts = {cell: float(count_items(cell, config, items)) for cell in cells}
    weights: dict[StudyCell, float] = {}
    for cell in cells:
        own = facts[cell.config.model]
        machine = machine_here(cell.config.dtype) if own.shape else H100
        work = works[cell.config.model, reasoning_of(cell)]
        seconds = cell_seconds(cell, own, work, int(counts[cell]), machine)
        if seconds is None:
            return counts
        weights[cell] = seconds
    return weights


def _one_each(cells: Sequence[StudyCell]) -> dict[tuple[str, object], StudyCell]:
    return {(cell.config.model, reasoning_of(cell)): cell for cell in reversed(cells)}


@contextmanager
def reporting(remaining: Remaining, cell: StudyCell) -> Iterator[None]:
    """Context in which `rest_of_study` tells what is left while this cell is computed."""

    def report(share: float, found: bool) -> str:
        if found:
            remaining.start(cell, share)
            return ""
        remaining.reach(cell, share)
        return remaining.words()

    remaining.start(cell)
    token = study_report.set(report)
    try:
        yield
    finally:
        study_report.reset(token)
