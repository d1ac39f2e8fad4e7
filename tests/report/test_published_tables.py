"""A reader sees where the published analysis and ours disagree: in summary, page and twin."""

import pytest
from synthetic_predictions import CONTROL, RELATED, compare_pair, gains, pair, study, without_gain

from isogloss.analysis.comparison import compare
from isogloss.analysis.published import published_analysis
from isogloss.report.note import note
from isogloss.report.page import write
from isogloss.report.published import beside_table, published_line, published_tables
from isogloss.report.verdict import summary


@pytest.fixture(scope="module")
def noise():
    """One model that does not gain; the regression takes noise for an effect of the baseline."""
    return compare(without_gain(), source="arb_Arab")


@pytest.fixture(scope="module")
def two_models():
    return compare(study(2, seeds=1, sources=("arb_Arab",), n=60), source="arb_Arab")


def test_the_table_shows_both_findings_with_their_numbers(noise):
    kinship, baseline, gain = beside_table(noise).rows
    regression = published_analysis(noise).regression.coefficients
    slope = regression["baseline"].estimate
    assert baseline[:2] == ["C2: weak baselines gain more", "disagree"]
    assert baseline[2].startswith(f"Weak baselines gain more: −{abs(slope):.2f} points per point")
    assert "standard error 0." in baseline[2]
    assert f"p = {regression['baseline'].p:.3f}" in baseline[2]
    assert baseline[3] == "Inconclusive: no slope beyond sampling noise, over 16 languages"
    assert kinship[1] == "in part"
    assert kinship[2].startswith("No advantage of related languages: ")
    assert kinship[3].startswith("Described only, no difference seen: contrast ")
    assert gain[0] == "Gain of each language"
    assert gain[3].endswith("of 18 differ")


def test_one_sentence_says_what_is_wrong(noise):
    note = beside_table(noise).note
    assert "over 16 observations" in note
    assert "languages and items as independent units" in note
    assert "the noise of the baseline is on both sides" in note


def test_the_summary_and_the_note_of_the_run_say_where_they_disagree(noise):
    line = published_line(noise)
    assert "C2 disagrees (published: weak baselines gain more; ours: inconclusive)" in line
    assert "C1 agrees in part (published: no advantage of related languages;" in line
    assert summary(noise).details[-1] == ("Published analysis", line)
    assert line in note(noise)


def test_a_disagreement_stands_out_in_page_and_twin(noise, tmp_path):
    page = write(noise, tmp_path, {}, []).read_text(encoding="utf-8")
    assert '<td class="bold"><bdi>disagree</bdi></td>' in page
    assert "| **disagree** |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_agreement_is_said_without_emphasis():
    before, after = pair({"arb_Arab": 0.15, **gains(0.2, 0.1)})
    level = {code: 0.01 * (5 * i % 16) for i, code in enumerate((*RELATED, *CONTROL))}
    extra = before["language"].map(level).fillna(0.0)
    place = before["item_id"].str[5:].astype(int) / 200
    shifted = [
        rows.assign(correct=rows["correct"] | ((place >= start) & (place < start + extra)))
        for rows, start in ((before, 0.4), (after, 0.8))
    ]
    table = beside_table(compare_pair(shifted))
    assert table.rows[0][1] == "agree"
    assert table.rows[0][2].startswith("Related languages gain more: ")
    assert table.rows[0][3].startswith("Described only, related languages gain more: contrast ")
    assert "agree" not in table.bold


def test_the_regression_is_printed_with_its_fit(noise):
    table = published_tables(noise)[0]
    coefficient = published_analysis(noise).regression.coefficients["related"]
    assert table.title == "Published regression"
    assert [row[0] for row in table.rows] == [
        "Intercept, points",
        "Baseline, points per point",
        "Related language, points",
    ]
    assert table.rows[2][2] == f"{100 * coefficient.se:.1f}"
    assert "16 observations" in table.note
    assert "R² 0." in table.note
    assert "13 degrees of freedom" in table.note


def test_one_model_has_both_intervals_of_each_language(noise):
    table = published_tables(noise)[-1]
    assert len(table.rows) == 18
    for row, gain in zip(table.rows, published_analysis(noise).gains, strict=True):
        assert gain.row.code in row[0]
        assert row[1] == ("yes" if gain.agreement == "agree" else "no")
        assert row[3] != row[6]


def test_several_models_have_one_column_each_and_differences_are_marked(two_models):
    table = published_tables(two_models)[-1]
    differing = published_analysis(two_models).differing
    assert table.headings == ("Language", "model-0", "model-1")
    cells = [cell for row in table.rows for cell in row[1:]]
    assert len(cells) == 2 * 18
    marked = [cell for cell in cells if cell.endswith("≠")]
    assert len(marked) == len(differing) > 0
    assert set(marked) == set(table.bold)


def test_without_a_regression_the_table_says_why():
    comparison = compare_pair(pair(gains(0.1, 0.09)))
    table = beside_table(comparison)
    assert [row[1] for row in table.rows[:2]] == ["not comparable", "not comparable"]
    assert "they are constant or redundant" in table.rows[0][2]
    assert published_line(comparison).startswith("C1 not comparable; C2 not comparable; ")
    assert [each.title for each in published_tables(comparison)] == [
        "McNemar intervals by language"
    ]
