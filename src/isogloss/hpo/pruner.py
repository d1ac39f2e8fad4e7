"""Pruner: ends a trial that is worse than the best one on the same dev passages.

Optuna takes one number per step of a trial. A dev measurement reports a number for each passage,
and their steps encode measurement and passage: see `report_measurement`.
"""

from collections.abc import Sequence

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

# Optuna's step is MEASUREMENT * number of the measurement + number of the passage. The last step of
# a measurement holds the mean over items: TPE ranks pruned trials by their last step.
MEASUREMENT = 1_000_000
MEAN = MEASUREMENT - 1


def report_measurement(
    trial: optuna.Trial, number: int, passage_scores: Sequence[float], mean: float
) -> None:
    """Report dev measurement `number` (from 1) of a trial: a score per passage, and the mean."""
    for passage, score in enumerate(passage_scores):
        trial.report(float(score), MEASUREMENT * number + passage)
    trial.report(mean, MEASUREMENT * number + MEAN)


class PairedPruner(BasePruner):
    """Prunes a trial that is worse than the best one at the same measurement.

    The pairs are dev passages. The test is the one-sided Wilcoxon test of Optuna's WilcoxonPruner,
    on the newest measurement alone: WilcoxonPruner takes the scores of a passage at several
    measurements as independent, and compares their mean with one over all measurements of the best
    trial. There is no pruning before `startup` trials are complete, or with fewer than `min_pairs`
    pairs. `level` is that of each test: 0.02 makes 0.05 over three of them (Pocock 1977).
    """

    def __init__(self, startup: int = 5, level: float = 0.02, min_pairs: int = 8) -> None:
        self.startup = startup
        self.level = level
        self.min_pairs = min_pairs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial is significantly worse than the best one; larger scores are better."""
        if not trial.intermediate_values:
            return False
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(completed) < max(self.startup, 1):
            return False
        best = study.best_trial.intermediate_values
        newest = max(trial.intermediate_values) // MEASUREMENT
        differences = [
            score - best[step]
            for step, score in trial.intermediate_values.items()
            if step // MEASUREMENT == newest and step in best and step % MEASUREMENT != MEAN
        ]
        if len(differences) < self.min_pairs or sum(differences) >= 0:
            return False
        test = stats.wilcoxon(differences, alternative="less", zero_method="zsplit")
        return bool(test.pvalue < self.level)
