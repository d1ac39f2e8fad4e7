"""The numbers of a comparison as DataFrames: gains.csv and contrasts.csv."""

from dataclasses import asdict

import pandas as pd

from isogloss.analysis.comparison import Comparison
from isogloss.analysis.estimates import estimates


def gains_frame(comparison: Comparison) -> pd.DataFrame:
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


def contrasts_frame(comparison: Comparison) -> pd.DataFrame:
    """One row an estimate, with the fields of Estimate."""
    return pd.DataFrame([asdict(each) for each in estimates(comparison)])
