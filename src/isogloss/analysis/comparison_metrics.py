"""The numbers of a comparison as metrics of the tracking store."""

import math

import numpy as np

from isogloss.analysis.adjusted_contrast import metric_name
from isogloss.analysis.comparison import Comparison
from isogloss.analysis.crossed_frames import crossed_metrics
from isogloss.analysis.gain_slopes import GainSlope
from isogloss.analysis.gains import gain_parts, mean_gain_parts
from isogloss.analysis.published import Agreement, Finding, published_analysis
from isogloss.analysis.unit_permutations import PermutedUnit
from isogloss.languages import JOIN
from isogloss.stats.contrasts import Contrast
from isogloss.types import Measure, Units

Metrics = dict[str, float | None]


def comparison_metrics(comparison: Comparison) -> dict[str, float]:
    """Headline numbers by metric name, without those that are infinite or undefined."""
    values = (
        _contrasts(comparison)
        | _robustness(comparison)
        | _checks(comparison)
        | _slopes(comparison)
        | _gains(comparison)
        | _published(comparison)
        | (crossed_metrics(comparison.crossed) if comparison.crossed else {})
    )
    return {
        name: float(value)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    }


def _contrasts(comparison: Comparison) -> Metrics:
    contrast, overall = comparison.contrast, comparison.overall
    values: Metrics = {
        "contrast/margin": comparison.margin,
        "contrast/accuracy_tost_p": contrast.tost_p,
        "contrast/minimum_detectable_effect": contrast.minimum_detectable_effect,
        "contrast/spread": contrast.spread,
        "contrast/related_languages": contrast.n_related,
        "contrast/control_languages": contrast.n_control,
        "contrast/seeds": len(overall.seeds),
    }
    if comparison.relative_margin:
        values["contrast/margin_share"] = comparison.relative_margin.share
        values["contrast/margin_mean_gain"] = comparison.relative_margin.gain.estimate
    if overall.contrast_by_seed:
        values["contrast/seed_spread"] = float(np.std(overall.contrast_by_seed, ddof=1))
    for measure, each_contrast in overall.contrasts.items():
        values |= _contrast(f"contrast/{measure}", each_contrast)
    for condition, result in comparison.conditions.items():
        if condition != comparison.condition:
            name = condition.replace("+", "_")
            values |= _contrast(
                f"contrast_{name}/accuracy", result.overall.contrasts[Measure.ACCURACY]
            )
            values[f"gain_{name}/mean"] = result.overall.mean.gain
    return values


def _robustness(comparison: Comparison) -> Metrics:
    values: Metrics = {}
    for adjustment in comparison.adjustments:
        if adjustment.contrast is not None:
            name = metric_name(adjustment.covariates)
            values[name] = adjustment.contrast.estimate
            values[f"{name}_p"] = adjustment.contrast.p
    if comparison.distance is not None:
        values["distance/spearman"] = comparison.distance.rank.correlation
        values["distance/p"] = comparison.distance.rank.p
    for difference in comparison.double_differences:
        # MLflow rejects `+` in the name of a metric.
        name = difference.code.replace(JOIN, ".")
        values |= _contrast(f"double_difference/{name}", difference.contrast)
    return values


def _checks(comparison: Comparison) -> Metrics:
    """Placebo branches, whole branches and families, and the contrast without floor and ceiling."""
    placebo, informative = comparison.placebo, comparison.informative
    values: Metrics = {
        "placebo/rank": placebo.rank,
        "placebo/branches": placebo.n,
        "placebo/significant": placebo.n_significant,
        "informative/left_out": len(informative.left_out),
    }
    for row in comparison.unit_permutations.rows:
        if row.unit != PermutedUnit.LANGUAGE:
            values |= {
                f"permuted/{row.unit}": row.estimate,
                f"permuted/{row.unit}_p": row.p,
                f"permuted/{row.unit}_lowest_p": row.lowest_p,
            }
    if informative.contrast is not None:
        values |= _contrast("informative/contrast", informative.contrast)
    return values


def _slopes(comparison: Comparison) -> Metrics:
    values: Metrics = {}
    for slope in comparison.baseline_slopes:
        values |= _slope(f"baseline_slope/{_unit(slope)}", slope)
    for slope in comparison.ability_slopes:
        values |= _slope(f"ability_slope/{_unit(slope)}", slope)
    for agreement in comparison.gain_agreements:
        slope, unit = agreement.slope, _unit(agreement.slope)
        values |= _slope(f"cot_slope/{unit}", slope)
        values[f"cot_correlation/{unit}"] = slope.test.correlation
        values[f"cot_correlation/{unit}_naive"] = slope.test.naive_correlation
        values[f"tuned_minus_cot/{unit}"] = agreement.difference.estimate
    return values


def _gains(comparison: Comparison) -> Metrics:
    values: Metrics = {"gain/mean": comparison.overall.mean.gain}
    for row in comparison.languages:
        values[f"gain/{row.code}"] = row.gain
        values[f"gain_se/{row.code}"] = row.se
        values |= {f"{name}/{row.code}": part for name, part in gain_parts(row).items()}
    for group, mean in comparison.overall.group_means.items():
        values[f"gain_group/{group}"] = mean.gain
    values |= {f"{name}/mean": part for name, part in mean_gain_parts(comparison.languages).items()}
    return values


def _published(comparison: Comparison) -> Metrics:
    """The published regression and significant gains, and how many findings differ from ours."""
    analysis = published_analysis(comparison)
    findings = [gain.published for gain in analysis.gains]
    claims = (analysis.kinship, analysis.baseline)
    values: Metrics = {
        "published/gains": findings.count(Finding.POSITIVE),
        "published/losses": findings.count(Finding.NEGATIVE),
        "published/gains_that_differ": len(analysis.differing),
        "published/claims_that_disagree": sum(
            beside.agreement == Agreement.DISAGREE for beside in claims
        ),
    }
    if analysis.regression is not None:
        values["published/r_squared"] = analysis.regression.r_squared
        values["published/observations"] = analysis.regression.n
        for name, coefficient in analysis.regression.coefficients.items():
            values |= {
                f"published/{name}": coefficient.estimate,
                f"published/{name}_se": coefficient.se,
                f"published/{name}_low": coefficient.interval.low,
                f"published/{name}_high": coefficient.interval.high,
                f"published/{name}_p": coefficient.p,
            }
    return values


def _unit(slope: GainSlope) -> str:
    return "models" if slope.units == Units.MODELS else "languages"


def _contrast(name: str, contrast: Contrast) -> Metrics:
    return {
        name: contrast.estimate,
        f"{name}_low": contrast.permutation.interval_95.low,
        f"{name}_high": contrast.permutation.interval_95.high,
        f"{name}_p": contrast.permutation.p,
        f"{name}_welch_p": contrast.welch.p,
    }


def _slope(name: str, slope: GainSlope) -> Metrics:
    test = slope.test
    return {
        name: test.slope,
        f"{name}_low": test.interval.low,
        f"{name}_high": test.interval.high,
        f"{name}_p": test.p,
        f"{name}_naive": test.naive,
    }
