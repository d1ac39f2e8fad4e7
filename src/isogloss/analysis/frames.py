"""The numbers of a comparison as DataFrames: gains.csv and contrasts.csv."""

from dataclasses import asdict

import pandas as pd

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.estimates import estimates


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
