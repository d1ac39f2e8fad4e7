"""Gains by language, their means by group, and the contrast between groups."""

import math
from dataclasses import replace

import numpy as np
import pytest
from synthetic_predictions import BASE, CONTROL, RELATED, TUNED, compare_pair, gains, pair

from isogloss.analysis.comparison import compare
from isogloss.stats.contrasts import relatedness_contrast
from isogloss.types import Group, Measure


def test_each_language_has_its_gain_group_and_family(runs):
    rows = {row.code: row for row in compare_pair(runs).languages}
    source, hebrew = rows["arb_Arab"], rows["heb_Hebr"]
    assert (source.group, rows["ary_Arab"].group) == (Group.SOURCE, Group.VARIETY)
    assert (hebrew.name, hebrew.group, hebrew.branch) == ("Hebrew", Group.RELATED, "Semitic")
    assert (hebrew.n, hebrew.passages) == (200, 100)
    assert (source.before, source.after) == pytest.approx((0.4, 0.55))
    assert source.gain == pytest.approx(0.15)
    assert source.low < 0.15 < source.high
    assert source.mcnemar_p == pytest.approx(2 * 0.5**30)
    assert source.mcnemar_p <= source.p <= source.holm_p
    assert (hebrew.before_valid, hebrew.after_valid) == (0.5, 1.0)


def test_languages_are_ordered_by_group_and_then_by_gain(runs):
    rows = compare_pair(runs).languages
    groups = [Group.SOURCE, Group.VARIETY, *[Group.RELATED] * 4, *[Group.CONTROL] * 12]
    assert [row.group for row in rows] == groups
    related = [row.gain for row in rows if row.group == Group.RELATED]
    assert related == sorted(related, reverse=True)


def test_the_contrast_excludes_the_source_and_its_varieties(runs):
    comparison = compare_pair(runs)
    assert (comparison.contrast.n_related, comparison.contrast.n_control) == (4, 12)
    gain = comparison.overall.gain_by_code
    expected = np.mean([gain[code] for code in RELATED]) - np.mean([gain[c] for c in CONTROL])
    assert comparison.contrast.estimate == pytest.approx(expected)


def test_means_count_each_language_once(runs):
    overall = compare_pair(runs).overall
    assert overall.mean.languages == 18
    assert overall.mean.gain == pytest.approx(np.mean(list(overall.gain_by_code.values())))
    assert overall.mean.after - overall.mean.before == pytest.approx(overall.mean.gain)
    related = overall.group_means[Group.RELATED]
    assert related.languages == 4
    assert related.gain == pytest.approx(overall.contrasts[Measure.ACCURACY].mean_related)


def test_log_odds_are_finite_where_no_or_all_answers_are_correct():
    before, after = pair(dict.fromkeys(RELATED + CONTROL, 0.6), n=10)
    before["correct"] = False
    expected = 2 * math.log(10.5 / 0.5)
    assert compare_pair((before, after)).languages[0].log_odds_gain == pytest.approx(expected)


def test_the_gold_log_probability_has_a_contrast_without_a_margin(runs):
    comparison = compare_pair(runs)
    rows = [row for row in comparison.languages if row.group in (Group.RELATED, Group.CONTROL)]
    expected = relatedness_contrast(
        [row.gold_logprob_gain for row in rows], [row.group == Group.RELATED for row in rows], None
    )
    contrast = comparison.overall.contrasts[Measure.GOLD_LOGPROB]
    assert contrast == expected
    assert (contrast.margin, contrast.tost_p) == (None, None)


def test_a_gain_in_free_answers_splits_into_format_and_comprehension(runs):
    row = compare_pair(runs).languages[0]
    # Valid and right before: 80 of 200; after: all that are right.
    assert row.free_gain == pytest.approx(row.after - 0.4)
    assert row.comprehension_part == pytest.approx(row.gain)
    assert row.format_part + row.comprehension_part == pytest.approx(row.free_gain)


def test_validity_that_was_not_recorded_is_none(runs):
    comparison = compare_pair([rows.assign(valid=None) for rows in runs])
    assert comparison.languages[0].before_valid is None
    assert comparison.languages[0].after_valid is None


def test_a_mean_over_seeds_has_no_mcnemar_p_even_if_the_seeds_agree(runs):
    base, tuned = runs
    seeds = {BASE: base, TUNED: tuned, TUNED._replace(seed="1"): tuned}
    rows = compare(seeds, source="arb_Arab").languages
    assert all(math.isnan(row.mcnemar_p) for row in rows)
    assert rows[0].gain == pytest.approx(0.15)


def test_other_groups_do_not_change_any_gain(runs):
    semitic, wide = compare_pair(runs), compare_pair(runs, branch="Romance")
    rows = {row.code: row for row in wide.languages}
    assert {row.code for row in wide.overall.members(Group.RELATED)} == {"fra_Latn", "spa_Latn"}
    for row in semitic.languages:
        assert replace(rows[row.code], group=row.group) == row


def test_a_gain_in_one_language_does_not_change_the_others():
    plain = compare_pair(pair(gains(0.1, 0.05))).overall.gain_by_code
    changed = compare_pair(pair({**gains(0.1, 0.05), "tur_Latn": 0.5})).overall.gain_by_code
    assert {code for code in plain if plain[code] != changed[code]} == {"tur_Latn"}
