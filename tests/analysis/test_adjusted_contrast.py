"""The contrast at equal baseline, script and tokens."""

import numpy as np
import pandas as pd
import pytest
from synthetic_predictions import CONTROL, RELATED, compare_pair, gains, pair, study

from isogloss.analysis.adjusted_contrast import Covariate, groups_overlap
from isogloss.analysis.comparison import compare
from isogloss.analysis.score_matrix import RunKey
from isogloss.errors import ConfigError
from isogloss.languages.pretraining_text import pretraining_words
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


def adjusted(comparison, *covariates):
    """The adjustment for exactly these covariates."""
    (adjustment,) = (each for each in comparison.adjustments if each.covariates == covariates)
    return adjustment


def test_the_last_adjustments_are_for_all_usable_covariates(tables):
    *single, before, last = compare(tables, source="arb_Arab").adjustments
    usable = [adjustment.covariates[0] for adjustment in single if adjustment.contrast is not None]
    assert usable == [
        Covariate.BASELINE,
        Covariate.CURVED_BASELINE,
        Covariate.TOKENS_PER_ITEM,
        Covariate.PRETRAINING_TEXT,
    ]
    assert before.covariates == (Covariate.BASELINE, Covariate.TOKENS_PER_ITEM)
    assert last.covariates == tuple(usable[1:])
    assert last.contrast.interval.low <= last.contrast.estimate <= last.contrast.interval.high


def test_a_curved_baseline_is_the_corrected_baseline_and_its_square(tables):
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
    expected = freedman_lane(y, IS_RELATED, {"baseline": x, "square": (x - 0.3) ** 2})
    adjustment = adjusted(compare(tables, source="arb_Arab"), Covariate.CURVED_BASELINE)
    assert adjustment.contrast.estimate == pytest.approx(expected.estimate)
    assert adjustment.contrast.p == pytest.approx(expected.p)


def test_pretraining_text_enters_as_logarithms_of_words(tables):
    gain = by_language(tables[TUNED_RUN], tables[TUNED_RUN]["correct"]) - by_language(
        tables[BASE_RUN], tables[BASE_RUN]["correct"]
    )
    words = np.log([pretraining_words(code) for code in CODES])
    expected = freedman_lane(gain, IS_RELATED, {"words": words})
    adjustment = adjusted(compare(tables, source="arb_Arab"), Covariate.PRETRAINING_TEXT)
    assert adjustment.contrast.estimate == pytest.approx(expected.estimate)
    assert adjustment.left_out == ()


def test_languages_without_a_value_are_left_out_and_named(tables):
    known = {code: float(place) ** 2 for place, code in enumerate(CODES) if code != "jpn_Jpan"}
    comparison = compare(tables, source="arb_Arab", covariates={"speakers": known})
    gain = by_language(tables[TUNED_RUN], tables[TUNED_RUN]["correct"]) - by_language(
        tables[BASE_RUN], tables[BASE_RUN]["correct"]
    )
    kept = np.array([code != "jpn_Jpan" for code in CODES])
    expected = freedman_lane(gain[kept], IS_RELATED[kept], {"speakers": list(known.values())})
    adjustment = adjusted(comparison, "speakers")
    assert adjustment.left_out == ("jpn_Jpan",)
    assert adjustment.contrast.estimate == pytest.approx(expected.estimate)
    last = comparison.adjustments[-1]
    assert last.covariates[-1] == "speakers"
    assert last.left_out == ("jpn_Jpan",)


def test_english_has_no_pretraining_text_in_the_table():
    runs = pair({**gains(0.1, 0.05), "eng_Latn": 0.07})
    adjustment = adjusted(compare_pair(runs), Covariate.PRETRAINING_TEXT)
    assert adjustment.left_out == ("eng_Latn",)
    assert adjustment.contrast is not None


def test_too_few_languages_with_values_are_a_problem(tables):
    known = {code: 1.0 * place for place, code in enumerate(CODES) if code not in RELATED[1:]}
    adjustment = adjusted(
        compare(tables, source="arb_Arab", covariates={"speakers": known}), "speakers"
    )
    assert adjustment.contrast is None
    assert "too few of these languages have a value of speakers" in adjustment.problem


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"script": {"heb_Hebr": 1.0}}, "'script' would share a metric with 'script'"),
        ({"x": {}, "x_p": {}}, "'x_p' would share a metric with 'x'"),
        ({"speakers": {"heb": 1.0}}, "unknown language 'heb'; expected heb_Hebr"),
        ({"speakers": {"heb_Hebr": np.nan}}, "speakers of heb_Hebr must be a finite number"),
    ],
)
def test_covariates_that_cannot_be_used_are_refused(runs, own, message):
    with pytest.raises(ConfigError, match=message):
        compare_pair(runs, covariates=own)


def test_an_adjustment_that_is_not_possible_has_a_problem_and_no_contrast(runs):
    comparison = compare_pair(runs)
    baseline = adjusted(comparison, Covariate.BASELINE)
    script = adjusted(comparison, Covariate.SCRIPT)
    assert (baseline.contrast, script.contrast) == (None, None)
    assert "differ by barely more than sampling noise" in baseline.problem
    assert "adjusting for script is not possible" in script.problem


@pytest.mark.parametrize(
    ("related", "control", "overlap"),
    [
        ([1, 2, 3], [4, 5, 6, 7], False),
        ([1, 2, 4.5], [4, 5, 6, 7], False),  # a third of the related
        ([1, 4.5, 5], [4, 5, 6, 7], True),
        ([2, 3], [1, 8, 9], True),  # all related within the range of the controls
        ([1, 9], [2, 3, 4], True),
        ([0, 0], [0, 1, 0], True),
    ],
)
def test_groups_overlap_if_half_of_one_lies_in_the_range_of_the_other(related, control, overlap):
    is_related = np.array([True] * len(related) + [False] * len(control))
    assert groups_overlap(is_related, [np.array([*related, *control], dtype=float)]) is overlap


def test_covariates_that_separate_the_groups_together_do_not_overlap():
    is_related = np.array([True] * 4 + [False] * 4)
    first = np.array([1.0, 2, 3, 4, 1, 2, 3, 4])
    second = first + np.where(is_related, 1, -1) + 0.1 * np.array([1, -1, 1, -1] * 2)
    assert groups_overlap(is_related, [first])
    assert groups_overlap(is_related, [second])
    assert not groups_overlap(is_related, [first, second])


def test_an_adjustment_beyond_the_languages_is_marked(tables: dict[RunKey, pd.DataFrame]) -> None:
    values = {code: float(10 + place) if code in RELATED else float(place % 5)
              for place, code in enumerate(CODES)}  # fmt: skip
    covariates = {"far apart": values, "near": {code: float(len(code + "x") + place % 3)
                  for place, code in enumerate(CODES)}}  # fmt: skip
    made = compare(tables, source="arb_Arab", covariates=covariates).adjustments
    marked = {each.covariates: each.extrapolates for each in made}
    assert marked["far apart",] is True
    assert marked["near",] is False
    assert all(flag for names, flag in marked.items() if "far apart" in names)
