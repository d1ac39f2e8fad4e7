"""Slopes of gains: on baseline accuracy, and on the gain from chain of thought.

Both sides of these regressions contain the baseline, so slopes are cross-fitted over passages (see
`stats.slopes`). Units are languages within models, and models where there are at least five.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.omissions import Omission, OmissionReason, Predictor
from isogloss.analysis.passage_shares import PassageShares, passage_shares, side_by_side
from isogloss.errors import ComparisonError
from isogloss.stats.slopes import Scatter, SlopeTest, pool_scatters, scatter, slope_test
from isogloss.stats.t_tests import MeanTest, mean_test
from isogloss.types import Condition, Units

FEWEST_MODELS = 5  # for a slope over models


@dataclass(frozen=True)
class GainSlope:
    """A cross-fitted regression line over `units`, between the extremes of x."""

    units: Units
    test: SlopeTest
    intercept: float
    x_min: float
    x_max: float

    def predict(self, x: float) -> float:
        """Height of the line at x."""
        return self.intercept + self.test.slope * x


@dataclass(frozen=True)
class GainAgreement:
    """Gain from tuning against gain from chain of thought, over the same units.

    `slope` has the gain from tuning as y. `partial_correlation` is the cross-fitted correlation of
    both gains at equal baseline; `difference` tests the mean of tuned minus base+cot accuracy.
    """

    slope: GainSlope
    partial_correlation: float
    difference: MeanTest


@dataclass(frozen=True)
class _Fit:
    """A slope, and the strata (models, or all models as one) it was fitted within."""

    slope: GainSlope
    strata: Sequence[PassageShares]


def baseline_slopes(
    study: AlignedStudy,
) -> tuple[tuple[GainSlope, ...], tuple[Omission, ...]]:
    """Slopes of gain on baseline accuracy; those that cannot be fitted are omissions."""
    shares = [passage_shares(study, [model]) for model in study.models]
    fits, omissions = _fit(shares, "before", "gain", Predictor.BASELINE, study.spec.seed)
    return tuple(fit.slope for fit in fits), omissions


def gain_agreements(
    study: AlignedStudy,
) -> tuple[tuple[GainAgreement, ...], tuple[Omission, ...]]:
    """Gain from tuning against gain from chain of thought.

    Over the models that have runs of base, tuned and base+cot; empty if none has.
    """
    needed = (Condition.BASE, Condition.TUNED, Condition.BASE_COT)
    models = [
        model
        for model in study.models
        if all(study.runs_matching(model, condition) for condition in needed)
    ]
    if not models:
        return (), ()
    shares = []
    for model in models:
        tuned = passage_shares(study, [model], Condition.TUNED, Condition.BASE)
        cot = passage_shares(study, [model], Condition.BASE_COT, Condition.BASE)
        scores = {
            "before": tuned.scores["before"],
            "tuned": tuned.scores["gain"],
            "cot": cot.scores["gain"],
        }
        shares.append(PassageShares(tuned.weight, scores))
    fits, omissions = _fit(shares, "cot", "tuned", Predictor.CHAIN_OF_THOUGHT, study.spec.seed)
    return tuple(_agreement(fit) for fit in fits), omissions


def _agreement(fit: _Fit) -> GainAgreement:
    differences = [stratum.totals("tuned") - stratum.totals("cot") for stratum in fit.strata]
    return GainAgreement(
        fit.slope, _partial_correlation(fit.strata), mean_test(np.mean(differences, axis=0))
    )


def _fit(
    shares: Sequence[PassageShares], x: str, y: str, predictor: Predictor, seed: int
) -> tuple[list[_Fit], tuple[Omission, ...]]:
    """Slopes of score `y` on score `x`: over languages within models, and over models."""
    languages = Units.LANGUAGES if len(shares) == 1 else Units.LANGUAGES_WITHIN_MODELS
    levels = {languages: list(shares)}
    if len(shares) >= FEWEST_MODELS:
        levels[Units.MODELS] = [side_by_side([share.mean_over_units() for share in shares])]
    fits, omissions = [], []
    for units, strata in levels.items():
        try:
            test = slope_test(
                yx=_pooled_scatter(strata, y, x),
                xx=_pooled_scatter(strata, x, x),
                yy=_pooled_scatter(strata, y, y),
                seed=seed,
            )
        except ComparisonError as error:
            omissions.append(
                Omission(
                    OmissionReason.NO_SLOPE, predictor=predictor, units=units, problem=str(error)
                )
            )
            continue
        x_U, y_U = (np.concatenate([s.totals(name) for s in strata]) for name in (x, y))
        intercept = float(y_U.mean() - test.slope * x_U.mean())
        slope = GainSlope(units, test, intercept, float(x_U.min()), float(x_U.max()))
        fits.append(_Fit(slope, strata))
    return fits, tuple(omissions)


def _pooled_scatter(strata: Sequence[PassageShares], left: str, right: str) -> Scatter:
    return pool_scatters(
        [scatter(stratum.scores[left], stratum.scores[right], stratum.weight) for stratum in strata]
    )


def _partial_correlation(strata: Sequence[PassageShares]) -> float:
    """Cross-fitted correlation of both gains given the baseline; NaN where undefined.

    From sums of products S, with 0 tuned, 1 cot and 2 before:
    (S01 - S02 S12 / S22) / sqrt((S00 - S02^2 / S22) (S11 - S12^2 / S22)).
    """
    names = ("tuned", "cot", "before")
    products = np.array(
        [
            [float(np.trace(_pooled_scatter(strata, left, right).crossfitted)) for right in names]
            for left in names
        ]
    )
    if products[2, 2] <= 0:
        return math.nan
    residual = products[:2, :2] - np.outer(products[:2, 2], products[2, :2]) / products[2, 2]
    if min(residual[0, 0], residual[1, 1]) <= 0:
        return math.nan
    return float(np.clip(residual[0, 1] / math.sqrt(residual[0, 0] * residual[1, 1]), -1, 1))
