"""Which trials are pruned: those worse than the best one on the same passages."""

import optuna
import pytest

from isogloss.hpo.pruner import MEASUREMENT, PairedPruner, report_measurement

BEST = [[-1.0 - 0.1 * at for at in range(12)], [-0.1 - 0.1 * at for at in range(12)]]
LOWER = [score - 0.05 for score in BEST[0]]


def report_all(trial: optuna.Trial, measurements: list[list[float]]) -> None:
    for number, scores in enumerate(measurements, start=1):
        report_measurement(trial, number, scores, sum(scores) / len(scores))


def study_with_best(pruner: PairedPruner) -> optuna.Study:
    """A study whose one complete trial scored BEST at its two measurements."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    trial = study.ask()
    report_all(trial, BEST)
    study.tell(trial, 0.9)
    return study


def pruned(measurements: list[list[float]], pruner: PairedPruner | None = None) -> bool:
    """Whether a new trial with these scores is pruned after the last of them."""
    trial = study_with_best(pruner or PairedPruner(startup=1)).ask()
    report_all(trial, measurements)
    return trial.should_prune()


def test_a_trial_that_is_worse_on_every_passage_is_pruned_and_a_better_one_is_not() -> None:
    assert pruned([LOWER])
    assert not pruned([[score + 0.05 for score in BEST[0]]])


def test_a_trial_without_a_clear_difference_is_not_pruned() -> None:
    mixed = [score + (0.05 if at % 2 else -0.05) for at, score in enumerate(BEST[0])]
    assert not pruned([mixed])
    assert not pruned([BEST[0]])


def test_only_the_newest_measurement_decides() -> None:
    assert pruned([BEST[0], [score - 0.05 for score in BEST[1]]])
    assert not pruned([LOWER, BEST[1]])


def test_there_is_no_pruning_with_few_pairs_or_few_complete_trials() -> None:
    assert not pruned([LOWER[:7]])
    assert pruned([LOWER[:8]])
    assert not pruned([LOWER], PairedPruner(startup=2))


def test_the_level_of_one_test_is_two_percent() -> None:
    # Seven of eight passages worse, the better one by the smallest difference: p = .0078, and with
    # the second smallest .0117; with the third .0195; with the fourth .0273.
    sizes = [0.01 * rank for rank in range(1, 9)]
    for better, expected in ((0, True), (2, True), (3, False)):
        changes = [size if at == better else -size for at, size in enumerate(sizes)]
        scores = [score + change for score, change in zip(BEST[0], changes, strict=False)]
        assert pruned([scores]) is expected, better


def test_steps_hold_one_value_per_passage_and_the_mean_last() -> None:
    trial = optuna.create_study(direction="maximize").ask()
    report_measurement(trial, 2, [0.25, 0.5], 0.4)
    values = trial.study.get_trials()[0].intermediate_values
    assert list(values.values()) == pytest.approx([0.25, 0.5, 0.4])
    assert {step // MEASUREMENT for step in values} == {2}
    assert max(values, key=int) == MEASUREMENT * 3 - 1
