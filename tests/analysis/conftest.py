"""Predictions and comparisons that several tests of the analysis share."""

import pandas as pd
import pytest
from synthetic_predictions import gains, pair, study

from isogloss.analysis.comparison import Comparison, compare


@pytest.fixture
def runs() -> tuple[pd.DataFrame, pd.DataFrame]:
    """One model before and after, in the source, a variety, 4 related and 12 control languages."""
    return pair({"arb_Arab": 0.15, "ary_Arab": 0.1, **gains(0.1, 0.09)})


@pytest.fixture(scope="session")
def six_models() -> Comparison:
    """Six models with three seeds, in four conditions, with a control source; see `study`."""
    return compare(study(seeds=3), source="arb_Arab")
