"""Every estimate of a comparison in one form: the rows of contrasts.csv."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gain_slopes import GainSlope
from isogloss.analysis.gains import ConditionGains, models_label
from isogloss.formatting import decimal, points
from isogloss.stats.contrasts import Contrast
from isogloss.stats.slopes import SlopeTest

NAN = math.nan
MEASURES = {
    "accuracy": ("Accuracy, points", "fraction"),
    "log_odds": ("Accuracy, log-odds", "logits"),
    "gold_logprob": ("Gold log-probability, nats", "nats"),
}
BASELINE, THINKING = "gain on baseline", "tuned gain on chain-of-thought gain"


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval and p, whatever the analysis; `unit` is that of all of them.

    `kind` is contrast, seed, adjusted, double difference, distance, slope or difference. `detail`
    is the covariates, the control source's code, the units of a slope, or the seed; `problem` says
    why there is no estimate. NaN is what does not apply.
    """

    kind: str
    model: str
    condition: str
    measure: str
    detail: str = ""
    unit: str = "fraction"
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
    units: int | None = None
    related: int | None = None
    control: int | None = None
    verdict: str = ""
    problem: str = ""

    def text(self, value: float) -> str:
        """A value in this unit: fractions are shown in points."""
        return points(value) if self.unit == "fraction" else decimal(value, 3)

    def interval(self, low: float, high: float) -> str:
        """An interval in this unit."""
        return f"[{self.text(low)}, {self.text(high)}]"


def estimates(comparison: Comparison) -> list[Estimate]:
    """Every contrast and slope of a comparison, the one that the verdict rests on first."""
    return [
        *_contrasts(comparison),
        *_adjusted(comparison),
        *_double_differences(comparison),
        *_distances(comparison),
        *_slopes(comparison),
    ]


def _contrasts(comparison: Comparison) -> Iterator[Estimate]:
    for judged in comparison.conditions.values():
        yield from _of_gains(judged.overall, {})
        if len(judged.models) > 1:
            for each, holm_p in zip(judged.models, judged.holm_p, strict=True):
                yield from _of_gains(each, {"accuracy": holm_p})
        for each in judged.models:
            for seed, value in zip(each.seeds, each.contrast_by_seed, strict=False):
                yield Estimate("seed", each.label, each.condition, "accuracy", seed, estimate=value)


def _of_gains(gains: ConditionGains, holm_p: dict[str, float]) -> Iterator[Estimate]:
    for measure, contrast in gains.contrasts.items():
        yield _of_contrast(
            "contrast", gains.label, gains.condition, measure, "", contrast,
            holm_p.get(measure, NAN),
        )  # fmt: skip


def _of_contrast(
    kind: str,
    model: str,
    condition: str,
    measure: str,
    detail: str,
    contrast: Contrast,
    holm_p: float = NAN,
) -> Estimate:
    test, welch = contrast.permutation, contrast.welch
    return Estimate(
        kind=kind,
        model=model,
        condition=condition,
        measure=measure,
        detail=detail,
        unit=MEASURES[measure][1],
        estimate=contrast.estimate,
        low_95=test.interval_95.low,
        high_95=test.interval_95.high,
        low_90=test.interval_90.low,
        high_90=test.interval_90.high,
        p=test.p,
        holm_p=holm_p,
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


def _adjusted(comparison: Comparison) -> Iterator[Estimate]:
    for each in comparison.adjustments:
        about = ("adjusted", comparison.overall.label, comparison.condition, "accuracy")
        detail = "; ".join(each.covariates)
        if each.contrast is None:
            yield Estimate(*about, detail, problem=each.problem)
            continue
        yield Estimate(
            *about,
            detail,
            estimate=each.contrast.estimate,
            low_95=each.contrast.interval.low,
            high_95=each.contrast.interval.high,
            p=each.contrast.p,
            permutations=each.contrast.permutations,
            exact=False,
        )


def _double_differences(comparison: Comparison) -> Iterator[Estimate]:
    for source in comparison.double_differences:
        yield _of_contrast(
            "double difference", models_label(source.models), comparison.condition, "accuracy",
            source.code, source.contrast,
        )  # fmt: skip


def _distances(comparison: Comparison) -> Iterator[Estimate]:
    if comparison.distance is not None:
        about = ("distance", comparison.overall.label, comparison.condition)
        ranks = _of_slope(about, "ranks", "languages", "Spearman", comparison.distance.rank)
        yield replace(ranks, estimate=ranks.correlation, low_95=NAN, high_95=NAN, naive=NAN)
        slope = comparison.distance.slope
        yield _of_slope(about, "accuracy", "languages", "fraction", slope)


def _slopes(comparison: Comparison) -> Iterator[Estimate]:
    def slope(measure: str, relation: GainSlope, at_equal_baseline: float = NAN) -> Estimate:
        about = ("slope", comparison.overall.label, comparison.condition)
        return _of_slope(
            about, measure, relation.units, "points a point", relation.test, at_equal_baseline
        )

    for relation in comparison.baseline_slopes:
        yield slope(BASELINE, relation)
    for each in comparison.gain_agreements:
        yield slope(THINKING, each.slope, each.partial_correlation)
    for each in comparison.gain_agreements:
        test = each.difference
        yield Estimate(
            *("difference", comparison.overall.label, "tuned", "accuracy", each.slope.units),
            estimate=test.estimate,
            low_95=test.interval_95.low,
            high_95=test.interval_95.high,
            low_90=test.interval_90.low,
            high_90=test.interval_90.high,
            p=test.p,
            margin=comparison.margin,
            units=test.n,
        )


def _of_slope(
    about: tuple[str, str, str],
    measure: str,
    detail: str,
    unit: str,
    test: SlopeTest,
    at_equal_baseline: float = NAN,
) -> Estimate:
    return Estimate(
        *about,
        measure,
        detail,
        unit,
        estimate=test.slope,
        low_95=test.interval.low,
        high_95=test.interval.high,
        p=test.p,
        permutations=test.permutations,
        exact=test.exact,
        naive=test.naive,
        correlation=test.correlation,
        naive_correlation=test.naive_correlation,
        correlation_at_equal_baseline=at_equal_baseline,
        units=test.n_units,
    )
