"""The numbers of a comparison as DataFrames: gains.csv, contrasts.csv and published.csv."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict

import pandas as pd
from pandas.api.types import is_numeric_dtype

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.estimates import estimates
from isogloss.analysis.published import BASELINE, RELATED, Beside, GainBeside, published_analysis
from isogloss.stats.regression import INTERCEPT
from isogloss.types import Interval

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of what a spreadsheet computes


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV without its index, in which no name is a formula to a spreadsheet.

    An apostrophe before the name makes it text, as OWASP recommends against CSV injection. Numbers
    are left as they are.
    """
    safe = frame.copy()
    for column in safe.columns[[not is_numeric_dtype(kind) for kind in safe.dtypes]]:
        safe[column] = safe[column].map(_not_a_formula)
    return safe.to_csv(index=False)


def _not_a_formula(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    with suppress(ValueError):
        float(value)
        return value
    return f"'{value}"


def gains_frame(comparison: Comparison) -> pd.DataFrame:
    """One row per condition, model and language, with the fields of LanguageGain; fractions."""
    rows = []
    for result in comparison.conditions.values():
        overall = [result.overall] if len(result.models) > 1 else []
        for gains in (*result.models, *overall):
            rows += [
                {"model": gains.label, "condition": gains.condition, **asdict(row)}
                for row in gains.languages
            ]
    return pd.DataFrame(rows)


def contrasts_frame(comparison: Comparison) -> pd.DataFrame:
    """One row per estimate, with the fields of Estimate."""
    return pd.DataFrame([asdict(estimate) for estimate in estimates(comparison)])


def published_frame(comparison: Comparison) -> pd.DataFrame:
    """The published analysis beside ours: coefficients of the regression, then gains.

    One row per coefficient and one per model and language. Columns that start with `our` hold the
    estimate that the published one is compared with: the effect of kinship over all sources, or the
    contrast of one where that carries no verdict; the cross-fitted slope; or the gain with its
    clustered interval and Holm-adjusted p.
    """
    return pd.DataFrame([*_coefficient_rows(comparison), *_gain_rows(comparison)])


def _coefficient_rows(comparison: Comparison) -> Iterator[dict[str, object]]:
    analysis = published_analysis(comparison)
    if analysis.regression is None:
        return
    own, slopes, models = analysis.our_kinship, comparison.baseline_slopes, comparison.models
    ours = {RELATED: _findings(analysis.kinship) | _ours(own.estimate, own.interval_95, own.p)}
    if slopes:
        test = slopes[-1].test
        ours[BASELINE] = _findings(analysis.baseline) | _ours(test.slope, test.interval, test.p)
    claims = {RELATED: "C1", BASELINE: "C2", INTERCEPT: ""}
    for name, coefficient in analysis.regression.coefficients.items():
        yield {
            "analysis": "least squares",
            "claim": claims[name],
            "term": name,
            "model": models[0].label if len(models) == 1 else f"{len(models)} models",
            "condition": comparison.condition,
            "language": "",
            "group": "",
            "estimate": coefficient.estimate,
            "standard_error": coefficient.se,
            "low_95": coefficient.interval.low,
            "high_95": coefficient.interval.high,
            "p": coefficient.p,
            "observations": analysis.regression.n,
            "r_squared": analysis.regression.r_squared,
            **ours.get(name, {}),
        }


def _gain_rows(comparison: Comparison) -> Iterator[dict[str, object]]:
    for gain in published_analysis(comparison).gains:
        row = gain.row
        yield {
            "analysis": "McNemar",
            "claim": "",
            "term": "gain",
            "model": gain.model,
            "condition": comparison.condition,
            "language": row.code,
            "group": row.group,
            "estimate": row.gain,
            "low_95": row.mcnemar_low,
            "high_95": row.mcnemar_high,
            "p": row.mcnemar_p,
            "observations": row.n,
            **_findings(gain),
            **_ours(row.gain, Interval(row.low, row.high), row.holm_p),
        }


def _findings(beside: Beside | GainBeside) -> dict[str, object]:
    return {
        "finding": beside.published,
        "our_finding": beside.ours,
        "agreement": beside.agreement,
    }


def _ours(estimate: float, interval: Interval, p: float) -> dict[str, object]:
    return {
        "our_estimate": estimate,
        "our_low_95": interval.low,
        "our_high_95": interval.high,
        "our_p": p,
    }
