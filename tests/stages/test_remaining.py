"""The remaining time of a study, on a clock of the test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from isogloss.config import StudyConfig
from isogloss.stages.progress import rest_of_study
from isogloss.stages.remaining import Remaining, reporting, study_weights
from isogloss.stages.session import Session
from isogloss.stages.study_cells import FinetuneCell, StudyCell, study_cells


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cells() -> list[StudyCell]:
    """Base, and a fine-tuning and an evaluation for each of two seeds."""
    return study_cells(StudyConfig(study="s", seeds=(0, 1)))


@pytest.fixture
def remaining(cells: list[StudyCell], clock: Clock) -> Remaining:
    """Trainings weigh 5, evaluations 10."""
    weights = {cell: 5.0 if isinstance(cell, FinetuneCell) else 10.0 for cell in cells}
    return Remaining(cells, lambda: weights, clock, afterwards=0)


def do(remaining: Remaining, clock: Clock, cell: StudyCell, seconds: float) -> None:
    remaining.start(cell)
    clock.time += seconds
    remaining.finish(cell)


def test_nothing_is_said_before_something_was_measured(
    remaining: Remaining, cells: list[StudyCell]
) -> None:
    assert remaining.words() == ""
    remaining.finish(cells[0], computed=False)  # reused
    assert remaining.seconds() is None


def test_weights_of_what_is_left_and_the_speed_of_what_was_done_give_the_time(
    remaining: Remaining, clock: Clock, cells: list[StudyCell]
) -> None:
    do(remaining, clock, cells[0], 30)  # 3 s per unit
    assert remaining.seconds() == pytest.approx((5 + 10 + 5 + 10) * 3)
    assert remaining.seconds(workers=2) == pytest.approx(45)
    assert remaining.words() == "; about 2 min of the study left"
    do(remaining, clock, cells[1], 10)  # a training: 2 s per unit, and evaluations stay at 3
    assert remaining.seconds() == pytest.approx(10 * 3 + 5 * 2 + 10 * 3)
    remaining.finish(cells[2], computed=False)  # failed: it is not done any more
    assert remaining.seconds() == pytest.approx(5 * 2 + 10 * 3)
    do(remaining, clock, cells[3], 10)
    do(remaining, clock, cells[4], 30)
    assert remaining.words() == ""


def test_a_running_cell_counts_by_the_share_that_is_done(
    remaining: Remaining, clock: Clock, cells: list[StudyCell]
) -> None:
    assert rest_of_study(0.5) == ""  # outside a study
    with reporting(remaining, cells[0]):
        clock.time += 10
        assert rest_of_study(0.01) == ""  # too little to tell a speed
        clock.time += 10
        rest = rest_of_study(0.5)  # 5 units in 20 s: 4 s per unit, 35 units left
    assert rest == "; about 2 min of the study left"
    assert remaining.seconds() == pytest.approx(35 * 4)


def test_the_comparison_is_part_of_what_is_left(clock: Clock, cells: list[StudyCell]) -> None:
    remaining = Remaining(cells, lambda: dict.fromkeys(cells, 1.0), clock, afterwards=25)
    for cell in cells[:-1]:
        do(remaining, clock, cell, 10)
    assert remaining.seconds() == pytest.approx(35)
    do(remaining, clock, cells[-1], 10)
    assert remaining.words() == "; about 25 s of the study left"


def test_what_was_found_on_disk_tells_no_speed(
    remaining: Remaining, clock: Clock, cells: list[StudyCell]
) -> None:
    with reporting(remaining, cells[0]):
        assert rest_of_study(0.8, found=True) == ""
        clock.time += 4
        rest_of_study(0.9)  # 1 unit in 4 s
    assert remaining.seconds() == pytest.approx((1 + 30) * 4)


def test_loading_a_model_tells_no_speed(
    remaining: Remaining, clock: Clock, cells: list[StudyCell]
) -> None:
    with reporting(remaining, cells[0]):
        clock.time += 100
        rest_of_study(0.0, found=True)
        clock.time += 5
        rest_of_study(0.5)  # 5 units in 5 s
    assert remaining.seconds() == pytest.approx(35)


def test_a_cell_of_seconds_tells_nothing_of_one_with_far_more_work(
    clock: Clock, cells: list[StudyCell]
) -> None:
    # A base evaluation of 3 s, most of them not its work, and trainings of 8 s.
    weights = {cell: 300.0 if isinstance(cell, FinetuneCell) else 1.0 for cell in cells}
    base, first, first_tuned, second, second_tuned = cells
    remaining = Remaining(cells, lambda: weights, clock, afterwards=0)
    do(remaining, clock, base, 3)
    assert remaining.words() == ""  # not 3 s * 602
    do(remaining, clock, first, 8)
    assert remaining.seconds() == pytest.approx(3 + 8 + 3)
    assert remaining.words() == "; about 14 s of the study left"
    do(remaining, clock, second, 8)
    assert remaining.seconds() == pytest.approx(3 + 3)
    assert remaining.seconds(workers=2) == pytest.approx(3)
    do(remaining, clock, first_tuned, 3)
    do(remaining, clock, second_tuned, 3)


def test_an_evaluation_waits_for_its_adapter_however_many_workers_there_are(
    remaining: Remaining, clock: Clock, cells: list[StudyCell]
) -> None:
    do(remaining, clock, cells[0], 30)  # 3 s per unit: 15 s and 30 s for each adapter
    assert remaining.seconds(workers=2) == pytest.approx(45)
    assert remaining.seconds(workers=4) == pytest.approx(45)


def test_a_running_cell_that_tells_no_share_is_taken_to_be_on_time(
    remaining: Remaining, clock: Clock, cells: list[StudyCell]
) -> None:
    do(remaining, clock, cells[0], 30)
    remaining.start(cells[1])
    remaining.start(cells[3])
    clock.time += 10  # of 15
    assert remaining.seconds(workers=2) == pytest.approx(5 + 30)
    clock.time += 10
    assert remaining.seconds(workers=2) == pytest.approx(30)


def test_what_a_worker_says_of_its_own_work_counts(
    remaining: Remaining, clock: Clock, cells: list[StudyCell]
) -> None:
    remaining.start(cells[0])
    clock.time += 100  # with loading the model
    remaining.start(cells[0], share=0.5, seconds=10)  # 5 units in 10 s
    remaining.finish(cells[0])
    assert remaining.seconds() == pytest.approx(30 * 2)


def test_weights_are_in_proportion_to_the_work(model_folder: Callable[[str], Path]) -> None:
    def weights(**changes: object) -> dict[str, float]:
        values = {
            "study": "s", "model": str(model_folder("gemma3")), "dtype": "float32", "limit": 8,
            "languages": "heb_Hebr,eng_Latn", "finetune": {"steps": 4, "batch_size": 4},
        }  # fmt: skip
        config = StudyConfig.model_validate(values | changes)
        cells = study_cells(config)
        sessions = {cell.config.model: Session.of(cell.config) for cell in cells}
        found = study_weights(config, cells, sessions)
        return {cell.label: found[cell] for cell in cells}

    few = weights()
    assert few["base"] == pytest.approx(few["tuned · Standard Arabic, seed 0"])
    more = weights(limit=16)
    assert more["base"] / few["base"] == pytest.approx(2, rel=0.2)
    longer = weights(finetune={"steps": 40, "batch_size": 4, "eval_every": 40, "dev_limit": 1})
    shorter = weights(finetune={"steps": 20, "batch_size": 4, "eval_every": 20, "dev_limit": 1})
    training = "finetune · Standard Arabic, seed 0"
    assert longer[training] / shorter[training] == pytest.approx(2, rel=0.1)
