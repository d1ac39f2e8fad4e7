"""Languages at the floor and at the ceiling, and the contrast without them."""

import numpy as np
import pytest
from scipy import stats
from synthetic_predictions import CONTROL, RELATED, compare_pair, gains, pair, tables

from isogloss.analysis.comparison import compare
from isogloss.analysis.informative import accuracy_interval
from isogloss.stats.contrasts import relatedness_contrast


def with_accuracy(runs, code, before, after):
    """The runs with that share of the items of one language answered correctly, evenly spread."""
    changed = []
    for run, share in zip(runs, (before, after), strict=True):
        n = int((run["language"] == code).sum())
        rng = np.random.default_rng(round(1000 * share))
        correct = rng.permutation(np.arange(n) < round(share * n))
        column = run["correct"].to_numpy().copy()
        column[run["language"] == code] = correct
        changed.append(run.assign(correct=column))
    return changed


def test_without_languages_at_either_end_nothing_is_left_out():
    result = compare_pair(pair(gains(0.1, 0.09))).informative
    assert (result.floor, result.ceiling, result.contrast) == ((), (), None)


def test_languages_at_chance_before_and_after_are_at_the_floor():
    runs = with_accuracy(pair(gains(0.1, 0.05)), "heb_Hebr", 0.25, 0.27)
    runs = with_accuracy(runs, "jpn_Jpan", 0.25, 0.5)  # learnt something
    runs = with_accuracy(runs, "kor_Hang", 0.1, 0.1)  # below chance
    comparison = compare_pair(runs)
    result = comparison.informative
    assert comparison.chance == 0.25
    assert (result.floor, result.ceiling) == (("heb_Hebr", "kor_Hang"), ())
    kept = [row for row in comparison.languages if row.code not in result.floor]
    expected = relatedness_contrast(
        [row.gain for row in kept], [row.code in RELATED for row in kept], 0.03
    )
    assert result.contrast.estimate == pytest.approx(expected.estimate)
    assert result.contrast.permutation.p == pytest.approx(expected.permutation.p)


def test_languages_at_the_top_before_and_after_are_at_the_ceiling():
    runs = with_accuracy(pair(gains(0.1, 0.05)), "deu_Latn", 1.0, 1.0)
    runs = with_accuracy(runs, "fra_Latn", 0.99, 1.0)
    runs = with_accuracy(runs, "spa_Latn", 0.9, 1.0)
    assert compare_pair(runs).informative.ceiling == ("deu_Latn", "fra_Latn")


@pytest.mark.parametrize("end", ["floor", "ceiling"])
def test_a_language_far_from_either_end_has_too_few_items_to_tell(end):
    runs = pair(gains(0.1, 0.05), n=8)
    for code, share in (("deu_Latn", 0.625), ("jpn_Jpan", 1.0), ("kor_Hang", 0.125)):
        runs = with_accuracy(runs, code, share, share)
    if end == "floor":  # all but one are right above, and the interval is as wide
        runs = with_accuracy(runs, "deu_Latn", 0.375, 0.375)
    result = compare_pair(runs).informative
    assert "deu_Latn" in getattr(result, end)
    assert "deu_Latn" in result.too_few_items
    assert "jpn_Jpan" in result.ceiling
    assert "kor_Hang" in result.floor
    assert not {"jpn_Jpan", "kor_Hang"} & set(result.too_few_items)
    assert set(result.too_few_items) <= set(result.left_out)


def test_without_options_chance_and_the_floor_are_unknown():
    runs = [
        run.drop(columns=["choice_logprobs", "answer", "prediction", "forced", "greedy"])
        for run in with_accuracy(pair(gains(0.1, 0.05)), "heb_Hebr", 0.25, 0.27)
    ]
    comparison = compare_pair(runs)
    assert comparison.chance is None
    assert comparison.informative.floor is None


def test_too_few_languages_left_is_a_problem():
    few = dict.fromkeys((*RELATED[:2], *CONTROL[:3]), 0.1)
    runs = with_accuracy(pair(few), RELATED[0], 0.25, 0.25)
    result = compare_pair(runs).informative
    assert result.contrast is None
    assert "got 1 related and 3 control" in result.problem


def test_the_interval_of_an_accuracy_is_students_where_passages_are_single_items():
    correct = np.repeat([1.0, 0.0], [30, 10])
    low, high = accuracy_interval(correct, np.arange(40))
    peer = stats.ttest_1samp(correct, 0.5).confidence_interval()
    assert (low, high) == pytest.approx((peer.low, peer.high))


def test_the_interval_is_a_point_or_unknown_at_its_limits():
    assert accuracy_interval(np.ones(5), np.arange(5)) == (1, 1)
    assert np.isnan(accuracy_interval(np.array([1.0, 0.0]), np.zeros(2))).all()


def test_several_models_are_judged_by_their_mean():
    runs = tables(gains(0.1, 0.09))
    second = {run._replace(model="n"): rows for run, rows in runs.items()}
    assert compare({**runs, **second}, source="arb_Arab").informative.left_out == ()


def test_a_language_with_varieties_is_at_the_floor_if_all_of_them_are():
    runs = pair({**gains(0.1, 0.05), "zho_Hant": 0.05})
    for code in ("jpn_Jpan", "zho_Hans"):
        runs = with_accuracy(runs, code, 0.25, 0.25)
    assert compare_pair(runs).informative.floor == ("jpn_Jpan",)
    runs = with_accuracy(runs, "zho_Hant", 0.25, 0.25)
    assert compare_pair(runs).informative.floor == ("jpn_Jpan", "zho_Hans")
