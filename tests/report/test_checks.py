"""Checks of a single-source contrast in sentences, tables, figure, metrics and contrasts.csv."""

import math
from dataclasses import replace

import pytest
from synthetic_predictions import compare_pair, gains, pair

from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.analysis.estimates import EstimateKind, estimates
from isogloss.analysis.informative import InformativeContrast
from isogloss.report.checks import check_lines, check_tables, ordinal
from isogloss.report.next_steps import next_steps
from isogloss.report.placebo_figure import placebo
from isogloss.report.verdict import summary

GAIN = {
    **{"amh_Ethi": 0.10, "heb_Hebr": 0.12, "mlt_Latn": 0.11, "tir_Ethi": 0.13},
    **{"hin_Deva": -0.05, "ben_Beng": -0.04, "urd_Arab": -0.03, "mar_Deva": -0.06},
    **{"deu_Latn": 0.02, "nld_Latn": 0.01, "swe_Latn": 0.03, "jpn_Jpan": 0.00, "kor_Hang": 0.01},
}


@pytest.fixture(scope="module")
def comparison():
    """Three branches; answers in Korean are at chance before and after."""
    runs = []
    for run in pair(GAIN):
        number = run["item_id"].str[-3:].astype(int)
        at_chance = run["correct"].where(run["language"] != "kor_Hang", number % 4 == 0)
        runs.append(run.assign(correct=at_chance.astype(bool)))
    return compare_pair(runs)


def test_the_lines_state_rank_whole_units_and_floor(comparison):
    lines = dict(check_lines(comparison))
    assert "1 of 2 have p ≤ 0.05" in lines["Placebo branches"]
    assert lines["Placebo branches"].endswith("Semitic is 1st of 3 branches.")
    branch = comparison.unit_permutations.rows[1]
    assert f"(lowest possible {branch.lowest_p:.2f})" in lines["Whole branches, families"]
    assert "2 languages are the only ones of their families" in lines["Whole branches, families"]
    assert lines["Floor and ceiling"].startswith(
        "1 language is not shown to be above chance, either before or after ("
    )
    assert "(Korean)" in lines["Floor and ceiling"]


def test_languages_with_too_few_items_are_not_said_to_be_at_either_end(comparison):
    told = InformativeContrast(
        ("heb_Hebr", "kor_Hang"), ("deu_Latn", "jpn_Jpan"), None, ("deu_Latn", "heb_Hebr"), "few"
    )
    line = dict(check_lines(replace(comparison, informative=told)))["Floor and ceiling"]
    assert line == (
        "1 language is not shown to be above chance, either before or after (Korean), 1 language "
        "has too few items to tell accuracy from chance (Hebrew), 1 language is at 100% or too "
        "close to tell, both before and after (Japanese) and 1 language has too few items to tell "
        "accuracy from 100% (German); without them no contrast is possible."
    )


def test_a_run_that_answers_with_one_option_is_named_with_what_to_try():
    before, after = pair(GAIN, n=40, base=0.25)
    comparison = compare_pair((before.assign(forced=0, correct=before["answer"] == 0), after))
    n = 40 * len(GAIN)
    assert dict(summary(comparison).details)["One option"] == (
        f"m, base answers option A in {n} of {n} items, whatever the question; accuracy then says "
        "at which place the right answers are; try shuffle_options=true or format=cloze."
    )
    assert "One option" not in dict(summary(compare_pair(pair(GAIN))).details)
    nothing = replace(
        compare_pair(pair(gains(0.0, 0.0), base=0.25)), one_position=comparison.one_position
    )
    assert next_steps(nothing).startswith(
        "What would settle it: answers that depend on the question, from shuffle_options=true or "
        "format=cloze; then accuracy above chance, "
    )


def test_one_other_branch_and_none_have_sentences_of_their_own():
    def line(codes):
        return dict(check_lines(compare_pair(pair({code: GAIN[code] for code in codes}))))

    semitic = ["amh_Ethi", "heb_Hebr", "mlt_Latn"]
    one = line([*semitic, "deu_Latn", "nld_Latn", "swe_Latn", "jpn_Jpan"])["Placebo branches"]
    assert one.startswith("with Germanic, the only other branch of 3 or more languages")
    assert one.endswith("the difference of Semitic is the larger one.")
    assert line([*semitic, "deu_Latn", "jpn_Jpan"])["Placebo branches"].startswith("none; no other")


def test_tables_hold_the_numbers_of_the_analysis(comparison):
    placebo_table, units, informative = check_tables(comparison)
    assert [row[0] for row in placebo_table.rows] == [
        "Semitic (relatives)",
        "Germanic",
        "Indo-Aryan",
    ]
    assert "are 1st of 3; 2 of 3 branches have p ≤ 0.05" in placebo_table.note
    assert [row[0] for row in units.rows] == ["Languages", "Branches", "Families"]
    assert "Alone in the family: Japanese, Korean." in units.note
    assert [row[:3] for row in informative.rows] == [
        ["All languages", "4", "9"],
        ["Without 1", "4", "8"],
    ]


def test_the_figure_has_one_labelled_row_per_branch_and_marks_the_source(comparison):
    (axes,) = placebo(comparison).axes
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == [
        "Semitic (4)",
        "Germanic (3)",
        "Indo-Aryan (4)",
    ]
    assert [label.get_fontweight() for label in labels] == ["bold", "normal", "normal"]
    drawn = [line.get_xdata()[0] for line in axes.lines if line.get_marker() in ("o", "s")]
    assert drawn == pytest.approx([100 * row.estimate for row in comparison.placebo.rows])


def test_metrics_and_estimates_hold_the_checks(comparison):
    metrics = comparison_metrics(comparison)
    assert (metrics["placebo/rank"], metrics["placebo/branches"]) == (1, 3)
    assert metrics["placebo/significant"] == 2
    assert metrics["informative/left_out"] == 1
    contrast = comparison.informative.contrast
    assert metrics["informative/contrast"] == contrast.estimate
    family = comparison.unit_permutations.rows[2]
    assert metrics["permuted/family"] == family.estimate
    assert metrics["permuted/family_lowest_p"] == family.lowest_p
    by_kind = {}
    for estimate in estimates(comparison):
        by_kind.setdefault(estimate.kind, []).append(estimate)
    assert [each.detail for each in by_kind[EstimateKind.PLACEBO]] == [
        row.branch for row in comparison.placebo.rows
    ]
    assert [each.detail for each in by_kind[EstimateKind.UNITS]] == ["language", "branch", "family"]
    (without,) = by_kind[EstimateKind.INFORMATIVE]
    assert (without.detail, without.estimate) == ("kor_Hang", contrast.estimate)
    assert math.isclose(without.p, contrast.permutation.p)


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd")]
)
def test_ordinals(number, text):
    assert ordinal(number) == text
