"""Every estimate of a comparison in one form: the rows of contrasts.csv."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from isogloss.analysis.claims import level_verdict
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gain_slopes import GainSlope
from isogloss.analysis.gains import ConditionGains, models_label
from isogloss.stats.contrasts import Contrast
from isogloss.stats.slopes import SlopeTest
from isogloss.stats.two_way import TwoWayMean
from isogloss.types import Condition, Measure, Units

NAN = math.nan


class EstimateKind(StrEnum):
    """The analysis that an estimate comes from."""

    CONTRAST = "contrast"
    SEED = "seed"
    ADJUSTED = "adjusted"
    DOUBLE_DIFFERENCE = "double difference"
    DISTANCE = "distance"
    PLACEBO = "placebo"
    UNITS = "whole units"
    INFORMATIVE = "without floor and ceiling"
    SLOPE = "slope"
    DIFFERENCE = "difference"


class Regression(StrEnum):
    """What is regressed, where an estimate is a slope or a rank correlation."""

    RANKS = "ranks"
    GAIN_ON_BASELINE = "gain on baseline"
    ABILITY_GAIN_ON_BASELINE = "gain on baseline in ability"
    TUNED_ON_COT_GAIN = "tuned gain on chain-of-thought gain"


class ValueUnit(StrEnum):
    """The unit of an estimate and its intervals."""

    FRACTION = "fraction"
    LOGITS = "logits"
    NATS = "nats"
    RANK_CORRELATION = "Spearman"
    POINTS_PER_POINT = "points a point"


UNITS = {
    Measure.ACCURACY: ValueUnit.FRACTION,
    Measure.LOG_ODDS: ValueUnit.LOGITS,
    Measure.ABILITY: ValueUnit.LOGITS,
    Measure.GOLD_LOGPROB: ValueUnit.NATS,
}


@dataclass(frozen=True)
class Estimate:
    """An estimate with its intervals and p, whatever the analysis; NaN where not applicable.

    `detail` is the covariates, the code of the control source, the units of a slope, the seed, the
    branch of a placebo, the units permuted, or the codes of the languages left out.
    Only the primary analysis has a verdict, overall and by model, with p adjusted by Holm's method:
    the crossed design, or else the contrast of accuracy in the compared condition. `problem` says
    why there is no estimate; `left_out` holds the codes of languages without a covariate's value.
    """

    kind: EstimateKind
    model: str
    condition: Condition
    measure: Measure | Regression
    detail: str = ""
    unit: ValueUnit = ValueUnit.FRACTION
    estimate: float = NAN
    low_95: float = NAN
    high_95: float = NAN
    low_90: float = NAN
    high_90: float = NAN
    p: float = NAN
    holm_p: float = NAN
    permutations: int | None = None
    exact: bool | None = None
    welch_low_95: float = NAN
    welch_high_95: float = NAN
    welch_p: float = NAN
    margin: float = NAN
    tost_p: float = NAN
    minimum_detectable_effect: float = NAN
    naive: float = NAN
    correlation: float = NAN
    naive_correlation: float = NAN
    correlation_at_equal_baseline: float = NAN
    low_at_equal_baseline: float = NAN
    high_at_equal_baseline: float = NAN
    p_at_equal_baseline: float = NAN
    units: int | None = None
    related: int | None = None
    control: int | None = None
    verdict: str = ""
    problem: str = ""
    left_out: str = ""


def estimates(comparison: Comparison) -> list[Estimate]:
    """Every contrast and slope of a comparison, starting with the one behind the verdict."""
    return [
        *_contrasts(comparison),
        *_adjusted(comparison),
        *_double_differences(comparison),
        *_distances(comparison),
        *_checks(comparison),
        *_slopes(comparison),
        *_tuned_minus_cot(comparison),
    ]


def _contrasts(comparison: Comparison) -> Iterator[Estimate]:
    for condition, result in comparison.conditions.items():
        compared = condition == comparison.condition and comparison.decisive is None
        for estimate in _of_gains(result.overall):
            primary = compared and estimate.measure == Measure.ACCURACY
            yield estimate if primary else replace(estimate, verdict="")
        if len(result.models) > 1:
            adjusted = zip(result.models, result.holm_p, result.verdicts, strict=True)
            for gains, holm_p, verdict in adjusted:
                for estimate in _of_gains(gains):
                    if estimate.measure != Measure.ACCURACY:
                        yield replace(estimate, verdict="")
                        continue
                    yield replace(estimate, holm_p=holm_p, verdict=verdict if compared else "")
        for gains in result.models:
            for seed, contrast in zip(gains.seeds, gains.contrast_by_seed, strict=False):
                yield Estimate(
                    EstimateKind.SEED, gains.label, gains.condition, Measure.ACCURACY, seed,
                    estimate=contrast,
                )  # fmt: skip


def _of_gains(gains: ConditionGains) -> Iterator[Estimate]:
    for measure, contrast in gains.contrasts.items():
        empty = Estimate(
            EstimateKind.CONTRAST, gains.label, gains.condition, measure, unit=UNITS[measure]
        )
        yield _with_contrast(empty, contrast)


def _with_contrast(estimate: Estimate, contrast: Contrast) -> Estimate:
    test, welch = contrast.permutation, contrast.welch
    return replace(
        estimate,
        estimate=contrast.estimate,
        low_95=test.interval_95.low,
        high_95=test.interval_95.high,
        low_90=test.interval_90.low,
        high_90=test.interval_90.high,
        p=test.p,
        permutations=test.relabellings,
        exact=test.exact,
        welch_low_95=welch.interval.low,
        welch_high_95=welch.interval.high,
        welch_p=welch.p,
        margin=NAN if contrast.margin is None else contrast.margin,
        tost_p=NAN if contrast.tost_p is None else contrast.tost_p,
        minimum_detectable_effect=contrast.minimum_detectable_effect,
        related=contrast.n_related,
        control=contrast.n_control,
        verdict=contrast.verdict,
    )


def _overall(comparison: Comparison, kind: EstimateKind, measure: Measure | Regression) -> Estimate:
    """An estimate of the mean over models, still without numbers."""
    return Estimate(kind, comparison.overall.label, comparison.condition, measure)


def _adjusted(comparison: Comparison) -> Iterator[Estimate]:
    for adjustment in comparison.adjustments:
        empty = replace(
            _overall(comparison, EstimateKind.ADJUSTED, Measure.ACCURACY),
            detail="; ".join(adjustment.covariates),
            problem=adjustment.problem,
            left_out=" ".join(adjustment.left_out),
        )
        contrast = adjustment.contrast
        if contrast is None:
            yield empty
            continue
        yield replace(
            empty,
            estimate=contrast.estimate,
            low_95=contrast.interval.low,
            high_95=contrast.interval.high,
            p=contrast.p,
            permutations=contrast.permutations,
            exact=False,
        )


def _double_differences(comparison: Comparison) -> Iterator[Estimate]:
    for difference in comparison.double_differences:
        empty = Estimate(
            EstimateKind.DOUBLE_DIFFERENCE,
            models_label(difference.models),
            comparison.condition,
            Measure.ACCURACY,
            difference.code,
        )
        yield replace(_with_contrast(empty, difference.contrast), verdict="")


def _distances(comparison: Comparison) -> Iterator[Estimate]:
    if comparison.distance is None:
        return
    kind, languages = EstimateKind.DISTANCE, Units.LANGUAGES
    ranks = replace(
        _overall(comparison, kind, Regression.RANKS),
        detail=languages,
        unit=ValueUnit.RANK_CORRELATION,
    )
    test = comparison.distance.rank
    yield replace(
        _with_slope(ranks, test), estimate=test.correlation, low_95=NAN, high_95=NAN, naive=NAN
    )
    slope = replace(_overall(comparison, kind, Measure.ACCURACY), detail=languages)
    yield _with_slope(slope, comparison.distance.slope)


def _checks(comparison: Comparison) -> Iterator[Estimate]:
    def empty(kind: EstimateKind, detail: str) -> Estimate:
        return replace(_overall(comparison, kind, Measure.ACCURACY), detail=detail)

    n_languages = comparison.contrast.n_related + comparison.contrast.n_control
    for branch in comparison.placebo.rows:
        yield replace(
            empty(EstimateKind.PLACEBO, branch.branch),
            estimate=branch.estimate,
            low_95=branch.interval.low,
            high_95=branch.interval.high,
            p=branch.p,
            related=len(branch.languages),
            control=n_languages - len(branch.languages),
        )
    for test in comparison.unit_permutations.rows:
        yield replace(
            empty(EstimateKind.UNITS, test.unit),
            estimate=test.estimate,
            low_95=test.interval.low,
            high_95=test.interval.high,
            p=test.p,
            related=test.n_related,
            control=test.n_control,
        )
    if comparison.informative.contrast is not None:
        left_out = " ".join(comparison.informative.left_out)
        yield _with_contrast(
            empty(EstimateKind.INFORMATIVE, left_out), comparison.informative.contrast
        )


def _slopes(comparison: Comparison) -> Iterator[Estimate]:
    def of_slope(measure: Regression, slope: GainSlope) -> Estimate:
        empty = replace(
            _overall(comparison, EstimateKind.SLOPE, measure),
            detail=slope.units,
            unit=ValueUnit.POINTS_PER_POINT,
        )
        return _with_slope(empty, slope.test)

    for slope in comparison.baseline_slopes:
        yield of_slope(Regression.GAIN_ON_BASELINE, slope)
    for slope in comparison.ability_slopes:
        yield of_slope(Regression.ABILITY_GAIN_ON_BASELINE, slope)
    for agreement in comparison.gain_agreements:
        yield replace(
            of_slope(Regression.TUNED_ON_COT_GAIN, agreement.slope),
            correlation_at_equal_baseline=agreement.partial.estimate,
            low_at_equal_baseline=agreement.partial.interval.low,
            high_at_equal_baseline=agreement.partial.interval.high,
            p_at_equal_baseline=agreement.partial.p,
        )


def _with_slope(estimate: Estimate, test: SlopeTest) -> Estimate:
    return replace(
        estimate,
        estimate=test.slope,
        low_95=test.interval.low,
        high_95=test.interval.high,
        p=test.p,
        permutations=test.permutations,
        exact=test.exact,
        naive=test.naive,
        correlation=test.correlation,
        naive_correlation=test.naive_correlation,
        units=test.n_units,
    )


def _tuned_minus_cot(comparison: Comparison) -> Iterator[Estimate]:
    for agreement in comparison.gain_agreements[-1:]:
        yield _difference(comparison, comparison.overall.label, agreement.difference)
    if len(comparison.model_levels) > 1 or not comparison.gain_agreements:
        for level in comparison.model_levels:
            verdict = level_verdict(
                level, comparison.chance, comparison.margin, len(comparison.model_levels)
            )
            yield replace(
                _difference(comparison, level.tuned.label, level.difference),
                holm_p=level.holm_p,
                tost_p=level.holm_p_within,
                verdict=verdict,
            )


def _difference(comparison: Comparison, label: str, test: TwoWayMean) -> Estimate:
    return Estimate(
        EstimateKind.DIFFERENCE,
        label,
        Condition.TUNED,
        Measure.ACCURACY,
        Units.LANGUAGES,
        estimate=test.estimate,
        low_95=test.interval_95.low,
        high_95=test.interval_95.high,
        low_90=test.interval_90.low,
        high_90=test.interval_90.high,
        p=test.p,
        margin=comparison.margin,
        tost_p=test.p_within(comparison.margin),
        units=test.n,
    )
