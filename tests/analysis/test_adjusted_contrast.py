"""The contrast at equal baseline, script and tokens."""

import numpy as np
import pandas as pd
import pytest
from synthetic_predictions import CONTROL, RELATED, compare_pair, study

from isogloss.analysis.adjusted_contrast import Covariate
from isogloss.analysis.comparison import compare
from isogloss.analysis.score_matrix import RunKey
from isogloss.stats.adjusted import freedman_lane, shared_noise, without_shared_noise
from isogloss.types import Condition, Group

CODES = sorted((*RELATED, *CONTROL))
IS_RELATED = np.array([code in RELATED for code in CODES])
TESTED = (Group.RELATED, Group.CONTROL)
BASE_RUN = RunKey("model-0", Condition.BASE)
TUNED_RUN = RunKey("model-0", Condition.TUNED, "arb_Arab", "0")


@pytest.fixture(scope="module")
def tables() -> dict[RunKey, pd.DataFrame]:
    """One model whose baselines are lower in related languages."""
    tables = study(1, seeds=1, sources=("arb_Arab",))
    base = tables[BASE_RUN]
    weaker = base["language"].isin(RELATED) & (base["item_id"].str[-1].astype(int) < 2)
    tables[BASE_RUN] = base.assign(correct=base["correct"] & ~weaker)
    return tables


def by_language(rows: pd.DataFrame, values: pd.Series) -> np.ndarray:
    return values.groupby(rows["language"]).mean()[CODES].to_numpy(float)


def by_passage(rows: pd.DataFrame, values: pd.Series) -> np.ndarray:
    """Contributions of passages to the mean of each language, [P, L]."""
    sums = values.groupby([rows["passage_id"], rows["language"]]).sum().unstack()
    return (sums[CODES] / rows.groupby("language").size()[CODES]).to_numpy(float)


def test_the_contrast_at_equal_baseline_is_that_of_corrected_gains_and_baselines(tables):
    before, after = (
        tables[run].sort_values(["language", "item_id"]) for run in (BASE_RUN, TUNED_RUN)
    )
    base, gain = before["correct"].astype(float), after["correct"].astype(float) - before["correct"]
    noise = shared_noise(
        by_passage(before, base), by_passage(before, gain), by_passage(before, base * 0 + 1)
    )
    y, x = without_shared_noise(
        by_language(before, gain), by_language(before, base), IS_RELATED[:, None] * 1.0, *noise
    )
    expected = freedman_lane(y, IS_RELATED, {"baseline": x})
    adjustment = compare(tables, source="arb_Arab").adjustments[0]
    assert adjustment.covariates == (Covariate.BASELINE,)
    assert adjustment.contrast.estimate == pytest.approx(expected.estimate)
    assert adjustment.contrast.p == pytest.approx(expected.p)
    assert adjustment.contrast.interval == pytest.approx(expected.interval)


def test_script_is_whether_it_is_that_of_the_source(tables):
    one_arabic = {run: rows[rows["language"] != "ary_Arab"] for run, rows in tables.items()}
    comparison = compare(
        one_arabic, source="mlt_Latn", branch="Semitic", condition=Condition.BASE_COT
    )
    contrasts = {
        adjustment.covariates: adjustment.contrast for adjustment in comparison.adjustments
    }
    latin = [row.script == "Latin" for row in comparison.languages if row.group in TESTED]
    gain = [row.gain for row in comparison.languages if row.group in TESTED]
    related = [row.group == Group.RELATED for row in comparison.languages if row.group in TESTED]
    expected = freedman_lane(gain, related, {"script": np.array(latin, dtype=float)}, draws=9)
    assert contrasts[Covariate.SCRIPT,].estimate == pytest.approx(expected.estimate)


def test_tokens_enter_as_logarithms(tables):
    rows = list(tables.values())
    tokens = np.mean([by_language(table, table["tokens"]) for table in rows], axis=0)
    gain = by_language(tables[TUNED_RUN], tables[TUNED_RUN]["correct"]) - by_language(
        tables[BASE_RUN], tables[BASE_RUN]["correct"]
    )
    expected = freedman_lane(gain, IS_RELATED, {"tokens": np.log(tokens)})
    adjustments = compare(tables, source="arb_Arab").adjustments
    (contrast,) = (
        adjustment.contrast
        for adjustment in adjustments
        if adjustment.covariates == (Covariate.TOKENS_PER_ITEM,)
    )
    assert contrast.estimate == pytest.approx(expected.estimate)
    assert list(contrast.slopes.values()) == pytest.approx(list(expected.slopes.values()))


def test_the_last_adjustment_is_for_all_usable_covariates(tables):
    *single, joint = compare(tables, source="arb_Arab").adjustments
    usable = [adjustment.covariates[0] for adjustment in single if adjustment.contrast is not None]
    assert joint.covariates == tuple(usable) == (Covariate.BASELINE, Covariate.TOKENS_PER_ITEM)
    assert joint.contrast.interval.low <= joint.contrast.estimate <= joint.contrast.interval.high


def test_an_adjustment_that_is_not_possible_has_a_problem_and_no_contrast(runs):
    baseline, script = compare_pair(runs).adjustments
    assert (baseline.contrast, script.contrast) == (None, None)
    assert "differ by barely more than sampling noise" in baseline.problem
    assert "adjusting for script is not possible" in script.problem
