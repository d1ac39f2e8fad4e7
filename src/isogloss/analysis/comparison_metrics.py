"""The numbers of a comparison: metrics for the tracking store."""

import math

import numpy as np

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gains import gain_parts, mean_gain_parts
from isogloss.stats.contrasts import Contrast
from isogloss.stats.slopes import SlopeTest


def comparison_metrics(comparison: Comparison) -> dict[str, float]:
    """Headline numbers by name; a number that is infinite or not defined is left out."""
    values: dict[str, float | None] = {"contrast/margin": comparison.margin}
    for name, contrast in comparison.overall.contrasts.items():
        values.update(_contrast_metrics(f"contrast/{name}", contrast))
    for name, judged in comparison.conditions.items():
        if name != comparison.condition:
            known = name.replace("+", "_")
            values |= _contrast_metrics(
                f"contrast_{known}/accuracy", judged.overall.contrasts["accuracy"]
            )
            values[f"gain_{known}/mean"] = judged.overall.mean.gain
    values["contrast/accuracy_tost_p"] = comparison.contrast.tost_p
    values["contrast/minimum_detectable_effect"] = comparison.contrast.minimum_detectable_effect
    values["contrast/spread"] = comparison.contrast.spread
    values["contrast/related_languages"] = comparison.contrast.n_related
    values["contrast/control_languages"] = comparison.contrast.n_control
    values["contrast/seeds"] = len(comparison.overall.seeds)
    if comparison.overall.contrast_by_seed:
        values["contrast/seed_spread"] = float(np.std(comparison.overall.contrast_by_seed, ddof=1))
    for each in comparison.adjustments:
        if each.contrast is not None:
            name = "adjusted/" + "_and_".join(each.covariates).replace(" ", "_")
            values[name] = each.contrast.estimate
            values[f"{name}_p"] = each.contrast.p
    if comparison.distance is not None:
        values["distance/spearman"] = comparison.distance.rank.correlation
        values["distance/p"] = comparison.distance.rank.p
    for source in comparison.double_differences:
        values.update(_contrast_metrics(f"double_difference/{source.code}", source.contrast))
    for relation in comparison.baseline_slopes:
        unit = "models" if relation.units == "models" else "languages"
        values.update(_slope_metrics(f"baseline_slope/{unit}", relation.test))
    for both in comparison.gain_agreements:
        unit = "models" if both.slope.units == "models" else "languages"
        values.update(_slope_metrics(f"cot_slope/{unit}", both.slope.test))
        values[f"cot_correlation/{unit}"] = both.slope.test.correlation
        values[f"cot_correlation/{unit}_naive"] = both.slope.test.naive_correlation
        values[f"tuned_minus_cot/{unit}"] = both.difference.estimate
    for row in comparison.languages:
        values[f"gain/{row.code}"] = row.gain
        values[f"gain_se/{row.code}"] = row.se
        for name, part in gain_parts(row).items():
            values[f"{name}/{row.code}"] = part
    values["gain/mean"] = comparison.overall.mean.gain
    for name, mean in comparison.overall.group_means.items():
        values[f"gain_group/{name}"] = mean.gain
    for name, part in mean_gain_parts(comparison.languages).items():
        values[f"{name}/mean"] = part
    return {
        name: float(value)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    }


def _contrast_metrics(name: str, contrast: Contrast) -> dict[str, float | None]:
    return {
        name: contrast.estimate,
        f"{name}_low": contrast.permutation.interval_95.low,
        f"{name}_high": contrast.permutation.interval_95.high,
        f"{name}_p": contrast.permutation.p,
        f"{name}_welch_p": contrast.welch.p,
    }


def _slope_metrics(name: str, test: SlopeTest) -> dict[str, float | None]:
    return {
        name: test.slope,
        f"{name}_low": test.interval.low,
        f"{name}_high": test.interval.high,
        f"{name}_p": test.p,
        f"{name}_naive": test.naive,
    }
