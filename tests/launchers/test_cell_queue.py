"""The order of cells on a cluster: what waits for what, and what becomes of lost cells."""

import pytest

from isogloss.config import StudyConfig
from isogloss.launchers.cell_queue import MOST_ATTEMPTS, CellQueue, Loss
from isogloss.stages.study_cells import StudyCell, study_cells


@pytest.fixture
def cells() -> list[StudyCell]:
    """Two models with two seeds each: 2 x (base, 2 x (finetune, tuned))."""
    study = {"study": "s", "models": [{"model": "m/a"}, {"model": "m/b"}], "seeds": (0, 1)}
    return study_cells(StudyConfig.model_validate(study))


def names(cells: list[StudyCell]) -> list[str]:
    return [cell.label.partition(" · ")[2] for cell in cells]


def test_cells_of_adapters_are_ready_when_the_adapter_is_trained_and_not_before(
    cells: list[StudyCell],
) -> None:
    queue = CellQueue.of(cells, {})
    assert names(queue.ready("m/a")) == [
        "base", "finetune · Standard Arabic, seed 0", "finetune · Standard Arabic, seed 1",
    ]  # fmt: skip
    base, first, second = (queue.take("m/a") for _ in range(3))
    assert queue.take("m/a") is None
    queue.finish(base)
    assert queue.take("m/a") is None
    queue.finish(second)
    assert names(queue.ready("m/a")) == ["tuned · Standard Arabic, seed 1"]
    assert queue.take("m/a").finetuned == second
    assert queue.take("m/a") is None
    queue.finish(first)
    assert queue.take("m/a").finetuned == first


def test_every_cell_is_taken_once_and_the_queue_is_finished_when_all_are_done(
    cells: list[StudyCell],
) -> None:
    queue = CellQueue.of(cells, {})
    taken = []
    while not queue.finished:
        assert queue.left == len(cells) - len(taken)
        cell = queue.take(queue.models()[0])
        queue.finish(cell)
        taken.append(cell)
    assert len(taken) == len(set(taken)) == 10
    assert set(taken) == set(cells)
    assert not queue.failed


def test_a_failed_cell_takes_only_what_needs_its_adapter_with_it(cells: list[StudyCell]) -> None:
    queue = CellQueue.of(cells, {})
    queue.take("m/a")
    finetuned = queue.take("m/a")
    queue.fail(finetuned, "diverged.")
    lost = [cell for cell in queue.failed if cell != finetuned]
    assert names(lost) == ["tuned · Standard Arabic, seed 0"]
    assert queue.failed[lost[0]] == (
        "its adapter is missing, because 'm/a · finetune · Standard Arabic, seed 0' failed."
    )
    assert queue.left == 10 - 2


def test_cells_known_to_be_unusable_are_not_run_and_neither_are_those_that_need_them(
    cells: list[StudyCell],
) -> None:
    unusable = {cells[1]: "too long."}
    queue = CellQueue.of(cells, unusable)
    assert [queue.failed[cells[1]], len(queue.failed)] == ["too long.", 2]
    assert cells[2] in queue.failed
    queue.fail_model("m/b", "not found.")
    assert len(queue.failed) == 2 + 5
    assert queue.models() == ["m/a"]


@pytest.mark.parametrize("loss", list(Loss))
def test_a_lost_cell_is_tried_again_after_the_others_until_its_attempts_are_used_up(
    cells: list[StudyCell], loss: Loss
) -> None:
    queue = CellQueue.of(cells, {})
    cell = queue.take("m/a")
    for _ in range(MOST_ATTEMPTS[loss] - 1):
        assert queue.lose(cell, loss, "process 7 was killed")
        assert queue.ready("m/a")[-1] == cell
        assert not queue.failed
        queue.waiting.remove(cell)
        queue.running.add(cell)
    assert not queue.lose(cell, loss, "process 7 was killed")
    attempts = {Loss.WORKER: 3, Loss.NODE: 10}[loss]
    assert queue.failed == {cell: f"process 7 was killed, in each of {attempts} attempts."}
