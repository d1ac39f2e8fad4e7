"""The job arrays of a study: which cells are tasks of which array, and what each waits for."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count

from isogloss.launchers.needs import Needs
from isogloss.launchers.slurm_config import JobOptions, SlurmConfig, sbatch_words
from isogloss.stages.study_cells import EvaluateCell, FinetuneCell, StudyCell

# The cost model assumes half of a GPU's speed; 38% were measured at the least (docs/LOG.md).
TIME_FACTOR = 2
START_MINUTES = 30  # loading the environment, the data and the model
MIB = 2**20


@dataclass(frozen=True)
class JobArray:
    """Tasks that request the same: task i runs the cell with the id `cells[i]`.

    Task i starts when task i of the array `after` has succeeded.
    """

    name: str
    cells: tuple[str, ...]
    options: tuple[str, ...]
    after: str | None = None


def cell_options(cell: StudyCell, config: SlurmConfig, needs: Needs | None) -> tuple[str, ...]:
    """The options of sbatch for a cell: stated for its kind, else for all jobs, else estimated."""
    own = config.finetune if isinstance(cell, FinetuneCell) else config.evaluate
    return tuple(sbatch_words(*([estimated(needs)] if needs else []), config, own))


def estimated(needs: Needs) -> JobOptions:
    """What the cost model requests: main memory in MiB and time in minutes, rounded up."""
    memory = None if needs.memory is None else f"{math.ceil(needs.memory / MIB)}M"
    minutes = None
    if needs.hours is not None:
        minutes = math.ceil(60 * TIME_FACTOR * needs.hours) + START_MINUTES
    return JobOptions(gpus=needs.gpus, mem=memory, time=minutes)


def job_arrays(
    cells: Mapping[str, StudyCell],
    finished: Collection[str],
    options: Callable[[StudyCell], tuple[str, ...]],
    largest: int,
) -> list[JobArray]:
    """Arrays of the cells that have not finished, in the order of submission.

    First what can start at once, then fine-tunings, each followed by the evaluations of its
    adapters, one array per condition. An array has no more than `largest` tasks.
    """
    ids = {cell: name for name, cell in cells.items()}
    left = [cell for name, cell in cells.items() if name not in finished]
    trainings = [cell for cell in left if isinstance(cell, FinetuneCell)]
    evaluations = [cell for cell in left if isinstance(cell, EvaluateCell)]
    ready = [cell for cell in evaluations if cell.finetuned not in trainings]
    dependent: dict[StudyCell, list[EvaluateCell]] = {cell: [] for cell in trainings}
    for cell in evaluations:
        if cell.finetuned in dependent:
            dependent[cell.finetuned].append(cell)
    arrays: list[JobArray] = []
    for part in _alike(ready, options, largest):
        _add(arrays, "evaluate", ids, part, options)

    def requests(cell: StudyCell) -> object:
        """The evaluations of an array's adapters must request the same, too."""
        return options(cell), tuple((own.condition, options(own)) for own in dependent[cell])

    for part in _alike(trainings, requests, largest):
        training = _add(arrays, "finetune", ids, part, options)
        for evaluated in zip(*(dependent[cell] for cell in part), strict=True):
            kind = str(evaluated[0].condition).replace("+", "-")
            _add(arrays, kind, ids, evaluated, options, training.name)
    return arrays


def _add(
    arrays: list[JobArray],
    kind: str,
    ids: Mapping[StudyCell, str],
    cells: Sequence[StudyCell],
    options: Callable[[StudyCell], tuple[str, ...]],
    after: str | None = None,
) -> JobArray:
    """Append an array of cells that request the same; its name is the kind, numbered if taken."""
    taken = {array.name for array in arrays}
    names = chain([kind], (f"{kind}-{number}" for number in count(2)))
    name = next(name for name in names if name not in taken)
    arrays.append(JobArray(name, tuple(ids[cell] for cell in cells), options(cells[0]), after))
    return arrays[-1]


def _alike(
    cells: Sequence[StudyCell], requests: Callable[[StudyCell], object], largest: int
) -> Iterator[list[StudyCell]]:
    """Cells that request the same, in groups of at most `largest`."""
    groups: dict[object, list[StudyCell]] = {}
    for cell in cells:
        groups.setdefault(requests(cell), []).append(cell)
    for group in groups.values():
        for start in range(0, len(group), largest):
            yield group[start : start + largest]
