"""The best dev score, and how long training continues without a better one."""

import pytest

from isogloss.training.early_stopping import DevScore, best_step, patience_exhausted


def scores(*accuracies: float) -> dict[int, DevScore]:
    """One measurement every ten steps, from step 0 on."""
    return {10 * at: DevScore(accuracy, -1.0) for at, accuracy in enumerate(accuracies)}


def test_the_best_step_is_the_earliest_with_the_highest_accuracy_after_step_0() -> None:
    assert best_step(scores(0.9, 0.5, 0.7, 0.7, 0.6)) == 20


def test_log_probability_breaks_ties_of_accuracy() -> None:
    dev = {0: DevScore(0.5, -1.0), 5: DevScore(0.5, -0.9), 10: DevScore(0.5, -0.8)}
    assert best_step(dev) == 10
    assert best_step({**dev, 15: DevScore(0.6, -2.0)}) == 15


@pytest.mark.parametrize(
    ("accuracies", "patience", "exhausted"),
    [
        ((0.5,), 1, False),  # no step is done
        ((0.9, 0.5), 1, False),  # the score before training does not count
        ((0.1, 0.5, 0.4), 1, True),
        ((0.1, 0.5, 0.4), 2, False),
        ((0.1, 0.5, 0.4, 0.4), 2, True),
        ((0.1, 0.5, 0.5, 0.5), 2, True),  # an equal score is no better one
        ((0.1, 0.5, 0.4, 0.6), 2, False),
        ((0.1, 0.5, 0.4, 0.4, 0.4), None, False),
    ],
)
def test_patience_counts_the_measurements_since_the_best_one(
    accuracies: tuple[float, ...], patience: int | None, exhausted: bool
) -> None:
    assert patience_exhausted(scores(*accuracies), patience) is exhausted
