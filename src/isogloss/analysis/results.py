"""The numbers of a comparison: metrics for the tracking store, tables for CSV."""

import math
from dataclasses import asdict

import numpy as np
import pandas as pd

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.gains import mean_parts, parts_of
from isogloss.stats.contrasts import Contrast
from isogloss.stats.slopes import SlopeTest


def table(comparison: Comparison) -> pd.DataFrame:
    """One row a condition, model and language, with the fields of LanguageGain; fractions."""
    rows = []
    for judged in comparison.conditions.values():
        whole = [judged.overall] if len(judged.models) > 1 else []
        for each in (*judged.models, *whole):
            rows += [
                {"model": each.label, "condition": each.condition, **asdict(row)}
                for row in each.languages
            ]
    return pd.DataFrame(rows)


def metrics(comparison: Comparison) -> dict[str, float]:
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
            values[f"gain_{known}/mean"] = judged.overall.means["all"].gain
    values["contrast/accuracy_tost_p"] = comparison.accuracy.tost_p
    values["contrast/minimum_detectable_effect"] = comparison.accuracy.minimum_detectable_effect
    values["contrast/spread"] = comparison.accuracy.spread
    values["contrast/related_languages"] = comparison.accuracy.n_related
    values["contrast/control_languages"] = comparison.accuracy.n_control
    values["contrast/seeds"] = len(comparison.overall.seeds)
    if comparison.overall.by_seed:
        values["contrast/seed_spread"] = float(np.std(comparison.overall.by_seed, ddof=1))
    for each in comparison.adjustments:
        if each.contrast is not None:
            name = "adjusted/" + "_and_".join(each.covariates).replace(" ", "_")
            values[name] = each.contrast.estimate
            values[f"{name}_p"] = each.contrast.p
    if comparison.distance is not None:
        values["distance/spearman"] = comparison.distance.rank.correlation
        values["distance/p"] = comparison.distance.rank.p
    for source in comparison.control_sources:
        values.update(_contrast_metrics(f"double_difference/{source.code}", source.contrast))
    for relation in comparison.weak_baselines:
        unit = "models" if relation.units == "models" else "languages"
        values.update(_slope_metrics(f"baseline_slope/{unit}", relation.test))
    for both in comparison.together:
        unit = "models" if both.relation.units == "models" else "languages"
        values.update(_slope_metrics(f"cot_slope/{unit}", both.relation.test))
        values[f"cot_correlation/{unit}"] = both.relation.test.correlation
        values[f"cot_correlation/{unit}_naive"] = both.relation.test.naive_correlation
        values[f"tuned_minus_cot/{unit}"] = both.difference.estimate
    for row in comparison.languages:
        values[f"gain/{row.code}"] = row.gain
        values[f"gain_se/{row.code}"] = row.se
        for name, part in parts_of(row).items():
            values[f"{name}/{row.code}"] = part
    for name, mean in comparison.overall.means.items():
        values["gain/mean" if name == "all" else f"gain_group/{name}"] = mean.gain
    for name, part in mean_parts(comparison.languages).items():
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
