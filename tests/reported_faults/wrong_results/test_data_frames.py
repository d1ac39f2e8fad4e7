"""Columns and sources of a data frame mean the same however they are written."""

from collections.abc import Callable

import pandas as pd
import pytest
from synthetic_predictions import gains, study, tables

import isogloss
from isogloss.analysis.score_matrix import RunKey
from isogloss.errors import ConfigError, DataError


def frame(runs: dict[RunKey, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(
        rows.assign(model=key.model, condition=str(key.condition), source=key.source, seed=key.seed)
        for key, rows in runs.items()
    )


@pytest.mark.parametrize("name", ["answer", "forced", "greedy"])
@pytest.mark.parametrize("written", [str, float, lambda value: f" {value}.0"])
def test_choices_are_numbers_however_they_are_written(
    name: str, written: Callable[[int], object]
) -> None:
    results = frame(tables(gains(0.1, 0.05), n=20))
    expected = isogloss.compare(results, source="arb_Arab").gains
    results[name] = results[name].map(written)
    pd.testing.assert_frame_equal(isogloss.compare(results, source="arb_Arab").gains, expected)


@pytest.mark.parametrize("value", ["A", 1.5, "none"])
def test_a_choice_that_is_no_whole_number_is_refused(value: object) -> None:
    results = frame(tables(gains(0.1, 0.05), n=20))
    results["forced"] = results["forced"].astype(object)
    results.iloc[3, results.columns.get_loc("forced")] = value
    with pytest.raises(DataError, match=r"`forced` must hold whole numbers.* in row 3"):
        isogloss.compare(results, source="arb_Arab")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("valid", "True", "`valid` must be true or false"),
        ("gold_logprob", "low", "`gold_logprob` must be a number but is 'low'"),
    ],
)
def test_another_column_that_is_not_what_it_says(name: str, value: object, message: str) -> None:
    results = frame(tables(gains(0.1, 0.05), n=20))
    results[name] = value
    with pytest.raises(DataError, match=f"{message}.* in rows 0, 1"):
        isogloss.compare(results, source="arb_Arab")


def test_a_margin_in_points_is_not_taken_as_a_fraction() -> None:
    results = frame(tables(gains(0.1, 0.05), n=20))
    with pytest.raises(
        ConfigError, match=r"below 1 \(a fraction: 0.03 is three points\) but got 3"
    ):
        isogloss.compare(results, source="arb_Arab", margin=3)


def test_the_order_of_pooled_sources_means_nothing() -> None:
    pooled, reverse = "arb_Arab+arz_Arab", "arz_Arab+arb_Arab"
    runs = study(1, seeds=2, sources=(pooled,), n=24)
    results = frame({key: rows for key, rows in runs.items() if "cot" not in key.condition})
    expected = isogloss.compare(results, source=pooled)
    results.loc[results["seed"] == "1", "source"] = reverse
    for source in (pooled, reverse):
        result = isogloss.compare(results, source=source)
        assert result.comparison.overall.seeds == ("0", "1")
        assert result.contrast.estimate == expected.contrast.estimate
