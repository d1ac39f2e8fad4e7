"""Slopes of gains: on baseline accuracy, and on the gain from chain of thought.

Both sides of these regressions contain the baseline, so slopes are cross-fitted over passages (see
`stats.slopes`). Units are languages within models, and models where there are at least five. Also
whether each model's two gains are equally large, which needs no slope.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from isogloss.analysis.ability import ability_shares
from isogloss.analysis.aligned_study import AlignedStudy
from isogloss.analysis.learning import Learning, learning
from isogloss.analysis.omissions import Omission, OmissionReason, Predictor
from isogloss.analysis.passage_shares import PassageShares, passage_shares, side_by_side
from isogloss.errors import ComparisonError
from isogloss.stats.paired import holm
from isogloss.stats.slopes import (
    Scatter,
    SlopeTest,
    pool_scatters,
    scatter,
    slope_test,
    without,
)
from isogloss.stats.two_way import TwoWayMean, two_way_mean
from isogloss.types import Condition, Interval, Units

FEWEST_MODELS = 5  # for a slope over models
SAME = 1e-12  # range of gains that differ by rounding alone


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
class PartialCorrelation:
    """The cross-fitted correlation of two gains at equal baseline.

    `p` and the 95% interval are those of the slope at equal baseline, in units of the correlation:
    the interval excludes zero where p is at most 0.05. NaN where it is undefined.
    """

    estimate: float
    p: float
    interval: Interval


@dataclass(frozen=True)
class GainAgreement:
    """Gain from tuning against gain from chain of thought, over the same units.

    `slope` has the gain from tuning as y. Both gains follow headroom, so only `partial`, at equal
    baseline, speaks of a mechanism that they share. `difference` is the mean over languages, and
    over these models, of tuned minus base+cot accuracy.
    """

    slope: GainSlope
    partial: PartialCorrelation
    difference: TwoWayMean

    @property
    def partial_correlation(self) -> float:
        """The correlation of both gains at equal baseline; NaN where undefined."""
        return self.partial.estimate


@dataclass(frozen=True)
class ModelLevel:
    """Whether a model gains as much from tuning as from chain of thought.

    `difference` is tuned minus base+cot accuracy. `holm_p` (against zero) and `holm_p_within`
    (that it is not within the margin) are adjusted for the number of models.
    """

    tuned: Learning
    cot: Learning
    difference: TwoWayMean
    holm_p: float
    holm_p_within: float


@dataclass(frozen=True)
class LevelContrast:
    """The difference of one model's `ModelLevel.difference` minus another's.

    `holm_p` is adjusted for the number of pairs of models.
    """

    models: tuple[str, str]
    difference: TwoWayMean
    holm_p: float


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


def ability_slopes(study: AlignedStudy) -> tuple[GainSlope, ...]:
    """The same slopes on a scale of ability, in logits; without those that cannot be fitted."""
    shares = [ability_shares(study, [model]) for model in study.models]
    fits, _ = _fit(shares, "before", "gain", Predictor.BASELINE, study.spec.seed)
    return tuple(fit.slope for fit in fits)


def gain_agreements(
    study: AlignedStudy,
) -> tuple[tuple[GainAgreement, ...], tuple[Omission, ...]]:
    """Gain from tuning against gain from chain of thought.

    Over the models that have runs of base, tuned and base+cot; empty if none has.
    """
    models = _models_with_both(study)
    if not models:
        return (), ()
    shares = [_both_gains(study, [model]) for model in models]
    fits, omissions = _fit(shares, "cot", "tuned", Predictor.CHAIN_OF_THOUGHT, study.spec.seed)
    difference = _difference(_both_gains(study, models))
    agreements = (
        GainAgreement(fit.slope, _partial_correlation(fit.strata, study.spec.seed), difference)
        for fit in fits
    )
    return tuple(agreements), omissions


def model_levels(study: AlignedStudy) -> tuple[ModelLevel, ...]:
    """For each model with runs of base, tuned and base+cot: are its two gains equally large?"""
    models = _models_with_both(study)
    differences = [_difference(_both_gains(study, [model])) for model in models]
    holm_p = holm([difference.p for difference in differences])
    holm_p_within = holm([difference.p_within(study.spec.margin) for difference in differences])
    return tuple(
        ModelLevel(
            learning(study, [model], model, Condition.TUNED),
            learning(study, [model], model, Condition.BASE_COT),
            difference,
            float(p),
            float(p_within),
        )
        for model, difference, p, p_within in zip(
            models, differences, holm_p, holm_p_within, strict=True
        )
    )


def level_contrasts(study: AlignedStudy) -> tuple[LevelContrast, ...]:
    """For each two models of `model_levels`: do their gains differ by different amounts?"""
    by_model = {model: _both_gains(study, [model]) for model in _models_with_both(study)}
    pairs = list(combinations(by_model, 2))
    differences = []
    for first, second in pairs:
        left, right = by_model[first], by_model[second]
        own, other = (shares.scores["tuned"] - shares.scores["cot"] for shares in (left, right))
        differences.append(two_way_mean(own - other, left.weight))
    holm_p = holm([difference.p for difference in differences])
    return tuple(
        LevelContrast(pair, difference, float(p))
        for pair, difference, p in zip(pairs, differences, holm_p, strict=True)
    )


def _models_with_both(study: AlignedStudy) -> list[str]:
    needed = (Condition.BASE, Condition.TUNED, Condition.BASE_COT)
    return [
        model
        for model in study.models
        if all(study.runs_matching(model, condition) for condition in needed)
    ]


def _both_gains(study: AlignedStudy, models: Sequence[str]) -> PassageShares:
    tuned = passage_shares(study, models, Condition.TUNED, Condition.BASE)
    cot = passage_shares(study, models, Condition.BASE_COT, Condition.BASE)
    scores = {
        "before": tuned.scores["before"],
        "tuned": tuned.scores["gain"],
        "cot": cot.scores["gain"],
    }
    return PassageShares(tuned.weight, scores)


def _difference(shares: PassageShares) -> TwoWayMean:
    return two_way_mean(shares.scores["tuned"] - shares.scores["cot"], shares.weight)


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
            _check_varies(strata, y, units)
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


def _check_varies(strata: Sequence[PassageShares], y: str, units: Units) -> None:
    """ComparisonError if y is the same in all units of each stratum.

    Measured gains include noise, so equal ones do not come from measurements. The correction for
    noise would take its expectation off products that hold none, and leave a slope of its own.
    """
    if all(np.ptp(stratum.totals(y)) <= SAME for stratum in strata):
        raise ComparisonError(
            f"the gain is the same in all {'models' if units == Units.MODELS else 'languages'}."
        )


def _pooled_scatter(strata: Sequence[PassageShares], left: str, right: str) -> Scatter:
    return pool_scatters(
        [scatter(stratum.scores[left], stratum.scores[right], stratum.weight) for stratum in strata]
    )


def _partial_correlation(strata: Sequence[PassageShares], seed: int) -> PartialCorrelation:
    """Cross-fitted correlation of both gains given the baseline; NaN where undefined.

    The baseline is regressed out of both gains, cross-fitted; the slope of what remains is tested
    as any slope, and its interval is scaled by the ratio of the two residual variances.
    """
    undefined = PartialCorrelation(math.nan, math.nan, Interval(math.nan, math.nan))
    names = ("tuned", "cot", "before")
    of = {(left, right): _pooled_scatter(strata, left, right) for left in names for right in names}
    if of["before", "before"].total <= 0:
        return undefined
    yx, xx, yy = (
        without("before", left, right, of)
        for left, right in (("tuned", "cot"), ("cot", "cot"), ("tuned", "tuned"))
    )
    if min(xx.total, yy.total) <= 0:
        return undefined
    test = slope_test(yx=yx, xx=xx, yy=yy, seed=seed)
    scale = math.sqrt(xx.total / yy.total)
    low, high = (min(max(end * scale, -1.0), 1.0) for end in test.interval)
    return PartialCorrelation(test.correlation, test.p, Interval(low, high))
