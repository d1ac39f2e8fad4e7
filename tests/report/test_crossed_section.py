"""The crossed design in the report: verdict first, then figures, tables and files."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic_predictions import (
    CROSSED_SOURCES,
    CROSSED_TARGETS,
    Tables,
    crossed_tables,
    study,
)

from isogloss.analysis.claims import ClaimVerdict, claim_verdicts
from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.crossed_frames import BEYOND, crossed_cells_frame, crossed_effects_frame
from isogloss.analysis.frames import published_frame
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.formatting import points
from isogloss.languages import source_name
from isogloss.report import crossed as crossed_report
from isogloss.report import crossed_sensitivity
from isogloss.report.crossed_figures import crossed_effects, crossed_gains
from isogloss.report.next_steps import next_steps
from isogloss.report.note import note
from isogloss.report.page import write
from isogloss.report.published import beside_table
from isogloss.report.verdict import summary
from isogloss.types import Interval, Verdict

SOURCES = (*CROSSED_SOURCES, "ind_Latn", "rus_Cyrl")
TARGETS = (
    *CROSSED_TARGETS,
    *("bul_Cyrl", "ceb_Latn", "jav_Latn", "pol_Latn", "tgl_Latn", "ukr_Cyrl"),
)


def six_sources(effect: float, **options: int) -> Tables:
    """Six sources with three relatives each among the targets; branches gain alike."""
    return crossed_tables(effect, sources=SOURCES, targets=TARGETS, n=100, family=0.05, **options)


@pytest.fixture(scope="module")
def planted() -> Comparison:
    """Two models; relatives gain six points more from each of six sources."""
    return compare(six_sources(0.06, models=2), source="tur_Latn")


@pytest.fixture(scope="module")
def null() -> Comparison:
    """Kinship has no effect, but targets of a branch gain alike."""
    return compare(six_sources(0.0), source="tur_Latn")


def test_a_planted_effect_of_kinship_is_found_and_is_the_verdict_on_c1(planted: Comparison) -> None:
    assert claim_verdicts(planted).by_claim["C1"] == Verdict.RELATED_GAIN_MORE
    effect = planted.crossed.overall
    assert effect.interval_95.low < 0.06 < effect.interval_95.high
    text = summary(planted)
    assert text.verdict == "Related gain more"
    assert text.headline == "targets gained more from related than from unrelated sources."
    assert "Over 6 sources and 18 targets" in text.numbers
    assert (
        "exact over 720 matchings of sources with relatives, lowest possible p = 0.001"
        in text.numbers
    )
    labels = [line.label for line in text.details]
    assert labels[:9] == [
        "Equivalence", "Sensitivity", "Models", "Sources", "Without one source", "Other measures",
        "At equal covariates", "Robust interval", "Seeds",
    ]  # fmt: skip
    assert "Turkish alone" in labels
    assert note(planted).startswith("Related gain more: ")


def test_without_an_effect_of_kinship_a_family_that_gains_alike_is_not_taken_for_one(
    null: Comparison,
) -> None:
    assert claim_verdicts(null).by_claim["C1"] == Verdict.EQUIVALENT
    assert (
        "as much from related as from unrelated sources, to within ±3.0" in summary(null).headline
    )
    assert null.crossed.overall.p > 0.05


def test_an_effect_that_the_robust_interval_does_not_find_is_said(
    planted: Comparison,
) -> None:
    def robust_line(robust: Interval) -> str:
        crossed = replace(planted.crossed, overall=replace(planted.crossed.overall, robust=robust))
        return dict(crossed_report.crossed_lines(planted, crossed))["Robust interval"]

    nothing = "it holds zero: a test based on it would not have found this effect."
    assert robust_line(Interval(-0.01, 0.13)).endswith(nothing)
    assert nothing not in robust_line(Interval(0.01, 0.11))
    assert robust_line(Interval(-np.inf, np.inf)) == "none, there are too few cells for it."


def test_equal_gains_need_both_90_percent_intervals_within_the_margin(null: Comparison) -> None:
    def line(verdict: Verdict) -> str:
        overall = replace(
            null.crossed.overall,
            interval_90=Interval(-0.012, 0.02),
            robust_90=Interval(-0.01, 0.031),
            equivalence_p=0.06,
            verdict=verdict,
        )
        changed = replace(null, crossed=replace(null.crossed, overall=overall))
        return dict(crossed_report.crossed_lines(changed, changed.crossed))["Equivalence"]

    assert line(Verdict.INCONCLUSIVE) == (
        "not shown, the 90% interval [−1.2, +2.0] lies within ±3.0 points, but the robust one, "
        "[−1.0, +3.1], does not (p = 0.060)."
    )
    assert line(Verdict.EQUIVALENT).startswith(
        "shown, the 90% interval [−1.2, +2.0] and the robust one, [−1.0, +3.1], lie within ±3.0"
    )


@pytest.mark.parametrize(
    ("interval_90", "interval_95", "text"),
    [
        ((0.059, 0.073), (0.058, 0.074), "lies beyond ±3.0 points (p = 1.00); the effect is"),
        ((0.029, 0.073), (0.028, 0.074), "extends beyond ±3.0 points (p = 1.00); the effect is not"),
    ],
)  # fmt: skip
def test_an_effect_is_compared_with_the_margin(
    planted: Comparison,
    interval_90: tuple[float, float],
    interval_95: tuple[float, float],
    text: str,
) -> None:
    overall = replace(
        planted.crossed.overall,
        interval_90=Interval(*interval_90),
        interval_95=Interval(*interval_95),
        equivalence_p=1.0,
    )
    changed = replace(planted, crossed=replace(planted.crossed, overall=overall))
    line = dict(crossed_report.crossed_lines(changed, changed.crossed))["Equivalence"]
    assert text in line


def test_a_lost_source_is_named_with_the_reason_while_the_design_stays_decisive(
    planted: Comparison,
) -> None:
    lost = Omission(OmissionReason.LOST_SOURCES, sources=("tha_Thai",), problem="out of memory.")
    changed = replace(planted, omissions=(lost,))
    assert changed.decisive is not None
    line = dict(crossed_report.crossed_lines(changed, changed.crossed))["Sources"]
    assert line.endswith("; left out: Thai (the table of effects by source says why).")
    tables = {table.title: table for table in crossed_report.crossed_tables(changed)}
    assert "Source Thai (tha_Thai) is left out: out of memory." in (
        tables["Effect of kinship by source"].note
    )
    before = dict(crossed_report.crossed_lines(planted, planted.crossed))["Sources"]
    assert before.startswith("the effect of kinship is positive for 6 of 6 sources, +")
    assert "left out" not in before


def test_the_published_analysis_stands_beside_the_effect_over_all_sources(
    planted: Comparison, null: Comparison
) -> None:
    row = beside_table(planted).rows[0]
    effect = planted.crossed.overall
    assert planted.contrast.verdict == Verdict.INCONCLUSIVE
    assert row[1] == "disagree"
    assert row[3].startswith(
        f"Related languages gain more: {points(effect.estimate)} points over 6 sources (95% interval"
    )
    assert "36 observations of gains from Turkish" in beside_table(planted).note
    related = published_frame(planted).iloc[2]
    assert (related["our_estimate"], related["our_p"]) == (effect.estimate, effect.p)
    assert related["our_finding"] == "positive"

    nothing = replace(null, margin=0.5)
    row = beside_table(nothing).rows[0]
    assert row[1] == "not comparable"
    assert row[3].startswith("Nothing to compare: ")


def test_the_named_source_is_a_row_beside_the_others(planted: Comparison) -> None:
    tables = {table.title: table for table in crossed_report.crossed_tables(planted)}
    rows = tables["Effect of kinship by source"].rows
    assert next(row[0] for row in rows) == "Turkish (tur_Latn)"
    assert {row[0].split("(")[1].rstrip(")") for row in rows} == set(SOURCES)
    assert all(row[2] == "3" for row in rows)
    assert (
        "The row of Turkish says whether it is special."
        in tables["Effect of kinship by source"].note
    )
    assert [row[0] for row in tables["Effect of kinship by model"].rows] == ["model-0", "model-1"]
    held = [row[0] for row in tables["Kinship at equal script, distance and vocabulary"].rows]
    assert held[:2] == ["Nothing", "Script"]


def test_the_effect_without_each_source_stands_beside_the_verdict(planted: Comparison) -> None:
    crossed = planted.crossed
    effects = crossed_effects_frame(crossed)
    left_out = effects[effects["analysis"] == "kinship without a source"].set_index("left_out")
    assert set(left_out.index) == set(SOURCES)
    change = (left_out["estimate"] - crossed.overall.estimate).abs()
    most = change.idxmax()
    text = crossed_sensitivity.without_one_source(crossed)
    assert text.startswith(f"{source_name(most)} matters most, without it the effect is ")
    assert points(left_out["estimate"][most]) in text
    assert "The verdict is another one" not in text
    tables = {table.title: table for table in crossed_report.crossed_tables(planted)}
    assert len(tables["Effect of kinship without each source"].rows) == 6
    rows = tables["Effect of kinship on other measures"].rows
    assert [row[0] for row in rows] == ["Accuracy, log-odds", "Gold log-probability, nats"]
    assert "accuracy, log-odds +" in crossed_sensitivity.other_measures(crossed)


def test_a_verdict_that_needs_a_source_says_so_and_asks_for_more(planted: Comparison) -> None:
    crossed = planted.crossed
    first, *others = crossed.without
    equal = replace(first, effect=replace(first.effect, verdict=Verdict.EQUIVALENT))
    needed = replace(crossed, without=(equal, *others))
    (name,) = crossed_sensitivity.decisive_sources(needed)
    assert name == source_name(first.sources[0])
    assert crossed_sensitivity.without_one_source(needed).endswith(
        f"The verdict is another one without {name}."
    )
    step = "more sources, so that the verdict needs no single one of them"
    assert step in crossed_report.crossed_steps(planted, needed)
    assert step not in crossed_report.crossed_steps(planted, crossed)


def test_crossed_csv_holds_the_cells_from_which_the_effect_follows(planted: Comparison) -> None:
    every = crossed_cells_frame(planted.crossed)
    assert every.groupby("model").size().to_dict() == dict.fromkeys(
        ("mean of 2 models", "model-0", "model-1"), 6 * 18
    )
    cells = every[every["model"] == "mean of 2 models"]
    assert cells.groupby("source")["related"].sum().to_dict() == dict.fromkeys(SOURCES, 3)
    columns = np.column_stack(
        [
            pd.get_dummies(cells["source"]).to_numpy(float),
            pd.get_dummies(cells["target"]).to_numpy(float),
            cells["related"],
        ]
    )
    slope = np.linalg.lstsq(columns, cells["gain"].to_numpy(), rcond=None)[0][-1]
    assert slope == pytest.approx(planted.crossed.overall.estimate)
    by_kin = cells.groupby("related")[BEYOND].mean()
    assert by_kin[True] == pytest.approx(planted.crossed.overall.estimate)
    assert by_kin[False] == pytest.approx(0.0, abs=1e-12)
    effects = crossed_effects_frame(planted.crossed)
    assert effects["estimate"][0] == planted.crossed.overall.estimate
    assert set(effects["source"].dropna()) == set(SOURCES)
    assert set(effects["model"]) == {"mean of 2 models", "model-0", "model-1"}


def test_the_section_comes_before_the_claims_in_page_and_twin(
    planted: Comparison, tmp_path
) -> None:
    page = write(planted, tmp_path, {}, []).read_text("utf-8")
    twin = (tmp_path / "report.md").read_text("utf-8")
    assert (
        page.index('id="crossed"')
        < page.index('id="effect-of-kinship-by-source"')
        < page.index('id="claims"')
    )
    assert (
        twin.index("## Kinship over all sources")
        < twin.index("![")
        < twin.index("## The three claims")
    )
    assert "<title>Does the gain from fine-tuning follow kinship, over 6 sources?</title>" in page
    for name in ("crossed_effects.png", "crossed_gains.png", "crossed.csv", "crossed_effects.csv"):
        assert (tmp_path / name).stat().st_size > 100
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets <= set(re.findall(r'id="([^"]+)"', page))


def test_the_heat_map_has_a_number_in_each_cell_and_outlines_relatives(planted: Comparison) -> None:
    (axes,) = crossed_gains(planted, planted.crossed).axes
    numbers = [
        text.get_text() for text in axes.texts if re.fullmatch(r"[+−]?\d+\.\d", text.get_text())
    ]
    assert len(numbers) == 6 * 18
    assert len(axes.patches) == 6 * 3
    cells = crossed_cells_frame(planted.crossed)
    first = axes.get_yticklabels()[0].get_text().split("(")[1].rstrip(")")
    assert cells[cells["target"] == first]["target_branch"].iloc[0] == "Turkic"


def test_the_forest_has_the_effect_and_a_row_per_source_and_model(planted: Comparison) -> None:
    (axes,) = crossed_effects(planted, planted.crossed).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:4] == ["all sources", "clustered errors", "by source", "Turkish"]
    assert {"by model", "model-0", "model-1", "checks, at equal ...", "script"} <= set(labels)


def test_three_sources_are_described_without_a_verdict() -> None:
    three = compare(
        crossed_tables(0.06, sources=("arb_Arab", "tur_Latn", "hin_Deva")), source="arb_Arab"
    )
    assert three.crossed is not None
    assert three.decisive is None
    (overall, *_) = crossed_report.crossed_tables(three)
    assert overall.rows[0][6] == "none"
    assert overall.note.endswith(
        " No verdict: a verdict on kinship needs sources of at least 4 branches with relatives "
        "among the targets, and here 3 have them."
    )
    text = summary(three)
    assert "relatives of Standard Arabic" in text.headline
    (line,) = [line.text for line in text.details if line.label == "All sources"]
    assert line.startswith("over 3 sources, a related source gives a target +")
    assert (
        "(p = 0.17, lowest possible 0.17); a verdict on kinship needs sources of at least 4" in line
    )


def test_a_low_p_of_three_branches_with_relatives_is_not_said_to_be_impossible() -> None:
    sources = (*CROSSED_SOURCES[:3], "kat_Geor", "jpn_Jpan", "kor_Hang")
    comparison = compare(crossed_tables(sources=sources), source="arb_Arab")
    crossed = comparison.crossed
    assert crossed is not None
    assert comparison.decisive is None
    assert crossed.overall.p == pytest.approx(1 / 120)
    line = crossed_report.crossed_line(crossed)
    assert "(p = 0.008, lowest possible 0.008); a verdict on kinship needs sources of" in line
    assert line.endswith("at least 4 branches with relatives among the targets, and here 3 have "
                         "them.")  # fmt: skip
    (overall, *_) = crossed_report.crossed_tables(comparison)
    assert "0.05" not in overall.note


def test_sources_with_the_same_relatives_have_no_verdict_for_want_of_matchings() -> None:
    comparison = compare(crossed_tables(), source="arb_Arab", branch="Bantu")
    crossed = comparison.crossed
    assert crossed is not None
    assert crossed.overall.n_related_branches == 4
    assert crossed.overall.matchings == 12
    assert comparison.decisive is None
    assert "sources with the same relatives leave only 12 different matchings" in (
        crossed_report.crossed_line(crossed)
    )


def test_only_the_averaged_models_are_counted() -> None:
    tables = crossed_tables(models=3, n=40)
    partial = {
        run: rows
        for run, rows in tables.items()
        if (run.model, run.source) != ("model-2", "swh_Latn")
    }
    comparison = compare(partial, source="arb_Arab")
    assert "letter format, mean of 2 models)" in summary(comparison).numbers
    left_out = "Model model-2 is not in the average of the crossed design: it was not tuned on swh"
    assert left_out in note(comparison)
    one = {run: rows for run, rows in partial.items() if run.model != "model-1"}
    cells = crossed_cells_frame(compare(one, source="arb_Arab").crossed)
    assert cells.groupby("model").size().to_dict() == {"model-0": 4 * 12, "model-2": 3 * 12}


def test_equivalence_is_not_said_to_be_shown_where_there_is_nothing_to_compare(
    null: Comparison,
) -> None:
    wide = replace(null, margin=0.5)
    assert claim_verdicts(wide).kinship == ClaimVerdict.NOTHING_TO_COMPARE
    line = dict(crossed_report.crossed_lines(wide, wide.crossed))["Equivalence"]
    assert line.startswith("not judged, nothing to compare (90% interval ")
    assert crossed_report.crossed_tables(wide)[0].rows[0][6] == "nothing to compare"
    assert dict(crossed_report.crossed_lines(null, null.crossed))["Equivalence"].startswith("shown")


def test_the_seeds_of_the_source_that_has_fewest_count() -> None:
    tables = crossed_tables(0.1, seeds=3, n=40)
    all_three = compare(tables, source="arb_Arab")
    assert all_three.crossed is not None
    assert all_three.crossed.fewest_seeds == 3
    assert "3 seeds of each source and model, averaged." in note(all_three)
    lacking = {
        run: rows for run, rows in tables.items() if (run.source, run.seed) != ("hin_Deva", "2")
    }
    two = compare(lacking, source="arb_Arab")
    assert two.crossed is not None
    assert two.crossed.fewest_seeds == 2
    assert "at least 3 seeds of each source" in next_steps(two)


def test_two_sources_have_the_double_difference_with_its_false_positives_and_no_section() -> None:
    two = compare(study(1, seeds=3, n=40), source="arb_Arab")
    assert two.crossed is None
    assert crossed_report.crossed_tables(two) == []
    lines = [line.text for line in summary(two).details if line.label == "Second source"]
    assert len(lines) == 1
    assert "finds an effect that is not there in 13% of studies" in lines[0]


def test_a_study_of_one_source_is_told_to_add_sources(null: Comparison) -> None:
    one = compare(crossed_tables(0.0, sources=("arb_Arab",)), source="arb_Arab")
    assert one.crossed is None
    assert "sources of at least four branches, each with relatives among the targets" in next_steps(
        one
    )
    assert next_steps(null) == "What would make it a claim: at least 3 seeds of each source."
