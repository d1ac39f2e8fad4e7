"""Tables of contrasts and slopes, from the estimates that contrasts.csv holds."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.estimates import Estimate, EstimateKind, Regression, ValueUnit, estimates
from isogloss.formatting import decimal, interval_text, listed, points, sentence
from isogloss.languages import language
from isogloss.report.evidence import FEWEST_FOR_WELCH
from isogloss.report.table import Table, p_text
from isogloss.types import Interval, Measure

MEASURES = {
    Measure.ACCURACY: "Accuracy, points",
    Measure.LOG_ODDS: "Accuracy, log-odds",
    Measure.ABILITY: "Ability, logits",
    Measure.GOLD_LOGPROB: "Gold log-probability, nats",
}
DIFFERENCE = "Related −\u00a0control"
NO_OVERLAP = "Not shown: related and control languages hardly overlap in it."


def estimate_tables(comparison: Comparison) -> list[Table]:
    """Contrasts, seeds, adjustments, double differences, distance and slopes, in this order."""
    by_kind: dict[EstimateKind, list[Estimate]] = defaultdict(list)
    for estimate in estimates(comparison):
        by_kind[estimate.kind].append(estimate)
    by_seed = [
        estimate
        for estimate in by_kind[EstimateKind.SEED]
        if estimate.condition == comparison.condition
    ]
    return [
        *_contrast_tables(comparison, by_kind[EstimateKind.CONTRAST]),
        _seed_table(by_seed),
        _adjusted_table(comparison, by_kind[EstimateKind.ADJUSTED]),
        _double_difference_table(comparison, by_kind[EstimateKind.DOUBLE_DIFFERENCE]),
        _distance_table(by_kind[EstimateKind.DISTANCE]),
        _slope_table(by_kind[EstimateKind.SLOPE]),
        _tuning_and_cot_table(by_kind[EstimateKind.DIFFERENCE]),
    ]


def _contrast_tables(comparison: Comparison, contrasts: Sequence[Estimate]) -> list[Table]:
    """The compared condition by measure and by model, and the other conditions."""
    overall = comparison.overall.label
    compared = [each for each in contrasts if each.condition == comparison.condition]
    relabelled = ", relabelled together" if len(comparison.models) > 1 else ""
    by_measure = [
        (MEASURES[Measure(each.measure)], each) for each in compared if each.model == overall
    ]
    by_model = [
        (each.model, each)
        for each in compared
        if each.measure == Measure.ACCURACY and each.model != overall
    ]
    by_condition = [
        (each.condition, each)
        for each in contrasts
        if each.condition != comparison.condition
        and each.measure == Measure.ACCURACY
        and each.model == comparison.conditions[each.condition].overall.label
    ]
    return [
        _contrast_table(
            "Relatedness contrast",
            "Measure",
            by_measure,
            f"Condition {comparison.condition} against {comparison.against}, {overall}"
            f"{relabelled}.",
        ),
        _contrast_table(
            "Contrast by model",
            "Model",
            by_model,
            "Accuracy, points; p and what is seen are adjusted for the number of models (Holm).",
        ),
        _contrast_table(
            "Contrast in other conditions",
            "Condition",
            by_condition,
            f"Accuracy, points; each condition against {comparison.against}.",
        ),
    ]


def _contrast_table(
    title: str, label: str, rows: Sequence[tuple[str, Estimate]], note: str
) -> Table:
    adjusted = any(math.isfinite(each.holm_p) for _, each in rows)
    judged = any(each.verdict for _, each in rows)
    unbounded = any(math.isinf(each.low_95) for _, each in rows)
    return Table(
        title,
        (
            *(label, DIFFERENCE, "95% interval", "p"),
            *(["p, Holm"] if adjusted else []),
            *(["Seen here"] if judged else []),
            *("Minimum detectable effect", "90% interval", "p, equivalence"),
            *("95% interval, Welch", "p, Welch"),
        ),
        [
            [
                name,
                _value(each, each.estimate),
                _permutation_interval(each, each.low_95, each.high_95),
                p_text(each.p),
                *([p_text(each.holm_p)] if adjusted else []),
                *([each.verdict] if judged else []),
                _detectable(each),
                _permutation_interval(each, each.low_90, each.high_90),
                p_text(each.tost_p),
                _interval(each, each.welch_low_95, each.welch_high_95) if _welch(each) else "",
                p_text(each.welch_p) if _welch(each) else "",
            ]
            for name, each in rows
        ],
        note + (" None: too few relabellings." if unbounded else ""),
    )


def _seed_table(by_seed: Sequence[Estimate]) -> Table:
    """One row per model, one column per seed."""
    seeds = sorted({each.detail for each in by_seed})
    by_model: dict[str, dict[str, Estimate]] = {}
    for each in by_seed:
        by_model.setdefault(each.model, {})[each.detail] = each
    rows = []
    for model, contrasts in by_model.items():
        spread = float(np.std([each.estimate for each in contrasts.values()], ddof=1))
        values = [points(contrasts[seed].estimate) if seed in contrasts else "" for seed in seeds]
        rows.append([model, *values, points(spread, signed=False)])
    return Table(
        "Contrast by seed",
        ("Model", *(f"Seed {seed}" for seed in seeds), "Standard deviation"),
        rows,
        f"{DIFFERENCE}, points.",
    )


def _adjusted_table(comparison: Comparison, adjusted: Sequence[Estimate]) -> Table:
    return Table(
        "Adjusted contrast",
        ("Held equal", f"{DIFFERENCE}, points", "95% interval", "p", "Note"),
        [
            [listed(each.detail.split("; ")), "", "", "", NO_OVERLAP]
            if adjustment.extrapolates
            else [
                listed(each.detail.split("; ")),
                _value(each, each.estimate),
                "" if each.problem else _interval(each, each.low_95, each.high_95),
                p_text(each.p),
                sentence(each.problem) or _left_out(each),
            ]
            for adjustment, each in zip(comparison.adjustments, adjusted, strict=True)
        ],
        f"Checks: what counts is the contrast of {points(comparison.contrast.estimate)} points. "
        "Freedman–Lane permutation test. Curved baseline: the baseline and its square. "
        "Pre-training text: words of the language in FineWeb2, as logarithms.",
    )


def _left_out(adjusted: Estimate) -> str:
    codes = adjusted.left_out.split()
    return f"Without {listed([language(code).name for code in codes])}." if codes else ""


def _double_difference_table(comparison: Comparison, doubles: Sequence[Estimate]) -> Table:
    return Table(
        "Double difference",
        (
            *("Control source", "Difference, points", "95% interval", "p", "90% interval"),
            *("Related languages", "Control languages"),
        ),
        [
            [
                f"{difference.name} ({difference.code})",
                _value(each, each.estimate),
                _permutation_interval(each, each.low_95, each.high_95),
                p_text(each.p),
                _permutation_interval(each, each.low_90, each.high_90),
                str(each.related),
                str(each.control),
            ]
            for difference, each in zip(comparison.double_differences, doubles, strict=True)
        ],
        f"Gain from {comparison.source_name} minus gain from the control source, in languages "
        f"related to {comparison.source_name} against languages related to neither.",
    )


def _distance_table(distances: Sequence[Estimate]) -> Table:
    rows = []
    for each in distances:
        if each.measure == Regression.RANKS:
            values = ["Rank correlation of gain and distance", decimal(each.correlation, 2), ""]
        else:
            interval = _interval(each, each.low_95, each.high_95)
            values = ["Slope, points per unit of distance", _value(each, each.estimate), interval]
        rows.append([*values, p_text(each.p), str(each.units)])
    return Table(
        "Genealogical distance",
        ("Measure", "Estimate", "95% interval", "p", "Languages"),
        rows,
        "Distance from the source in Glottolog's tree, from 0 to 1; related and control languages. "
        "The rank correlation is the one to read, since depths of branches are uneven.",
    )


def _slope_table(slopes: Sequence[Estimate]) -> Table:
    def if_bounded(each: Estimate, value: float) -> str:
        bounded = math.isfinite(each.low_95) or math.isfinite(each.high_95)
        return decimal(value if bounded else math.nan, 2)

    return Table(
        "Slopes",
        (
            *("Slope", "Cross-fitted", "95% interval", "p", "Naive", "Correlation, cross-fitted"),
            *(
                "Correlation, naive",
                "Correlation at equal baseline",
                "95% interval, equal baseline",
            ),
            "p, equal baseline",
        ),
        [
            [
                f"{sentence(each.measure)}, over {each.units} {each.detail}",
                if_bounded(each, each.estimate),
                interval_text(Interval(each.low_95, each.high_95), 2),
                p_text(each.p),
                decimal(each.naive, 2),
                if_bounded(each, each.correlation),
                decimal(each.naive_correlation, 2),
                ""
                if each.measure != Regression.TUNED_ON_COT_GAIN
                else decimal(each.correlation_at_equal_baseline, 2),
                ""
                if each.measure != Regression.TUNED_ON_COT_GAIN
                else interval_text(
                    Interval(each.low_at_equal_baseline, each.high_at_equal_baseline), 2
                ),
                p_text(each.p_at_equal_baseline),
            ]
            for each in slopes
        ],
        "In points per point, of ability in logits per logit. Naive slopes contain the noise that "
        "both sides share. n/a and unbounded: the values vary no more than sampling noise.",
    )


def _tuning_and_cot_table(differences: Sequence[Estimate]) -> Table:
    return Table(
        "Tuning and chain of thought",
        (
            *("Model", "Tuned −\u00a0base+cot, points", "95% interval", "p", "p, Holm"),
            *("90% interval", "p, equivalence", "Verdict"),
        ),
        [
            [
                each.model,
                _value(each, each.estimate),
                _interval(each, each.low_95, each.high_95),
                p_text(each.p),
                p_text(each.holm_p),
                _interval(each, each.low_90, each.high_90),
                p_text(each.tost_p),
                each.verdict,
            ]
            for each in differences
        ],
        "Languages and passages are taken as samples, models are not: the mean speaks of these "
        "models. p, equivalence of a model is adjusted by Holm's method.",
    )


def _value(estimate: Estimate, value: float) -> str:
    """A value in the unit of the estimate; fractions are shown in points."""
    return points(value) if estimate.unit == ValueUnit.FRACTION else decimal(value, 3)


def _interval(estimate: Estimate, low: float, high: float) -> str:
    if estimate.unit == ValueUnit.FRACTION:
        return interval_text(Interval(100 * low, 100 * high), 1)
    return interval_text(Interval(low, high), 3)


def _permutation_interval(estimate: Estimate, low: float, high: float) -> str:
    """An interval over relabellings; there may be too few of them."""
    return "none" if math.isinf(low) else _interval(estimate, low, high)


def _welch(estimate: Estimate) -> bool:
    """Whether both groups are large enough for Welch's test."""
    return min(estimate.related or 0, estimate.control or 0) >= FEWEST_FOR_WELCH


def _detectable(estimate: Estimate) -> str:
    effect = estimate.minimum_detectable_effect
    return "none" if math.isinf(effect) else _value(estimate, effect).removeprefix("+")
