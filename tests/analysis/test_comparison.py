"""Tables of predictions become gains, contrasts, claims and sentences, or are refused."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_predictions import CONTROL, RELATED, gains, pair, study

from isogloss.analysis.claims import ClaimVerdict, claim_verdicts
from isogloss.analysis.comparison import Comparison, compare
from isogloss.analysis.comparison_metrics import comparison_metrics
from isogloss.analysis.frames import gains_frame
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.analysis.score_matrix import RunKey
from isogloss.errors import ComparisonError, ConfigError
from isogloss.formatting import decimal, p_value, points
from isogloss.stats.contrasts import relatedness_contrast
from isogloss.types import Condition

BASE, TUNED = RunKey("m", Condition.BASE), RunKey("m", Condition.TUNED, "arb_Arab", "0")


def compared(runs, source="arb_Arab", **options) -> Comparison:
    tables = dict(zip((BASE, TUNED._replace(source=source)), runs, strict=True))
    return compare(tables, source=source, **options)


@pytest.fixture
def runs():
    return pair({"arb_Arab": 0.15, "ary_Arab": 0.1, **gains(0.1, 0.09)})


def test_each_language_has_its_gain_group_and_family(runs):
    rows = {row.code: row for row in compared(runs).languages}
    assert rows["arb_Arab"].group == "source"
    assert rows["ary_Arab"].group == "variety"
    hebrew = rows["heb_Hebr"]
    assert (hebrew.name, hebrew.group, hebrew.branch) == ("Hebrew", "related", "Semitic")
    assert (hebrew.n, hebrew.passages) == (200, 100)
    assert rows["arb_Arab"].gain == pytest.approx(0.15)
    assert rows["arb_Arab"].low < 0.15 < rows["arb_Arab"].high
    assert rows["arb_Arab"].mcnemar_p == pytest.approx(2 * 0.5**30)
    assert rows["arb_Arab"].mcnemar_p <= rows["arb_Arab"].holm_p
    assert (hebrew.before_valid, hebrew.after_valid) == (0.5, 1.0)


def test_languages_are_ordered_by_group_and_then_by_gain(runs):
    rows = compared(runs).languages
    order = [row.group for row in rows]
    assert order == ["source", "variety", *["related"] * 4, *["control"] * 12]
    related = [row.gain for row in rows if row.group == "related"]
    assert related == sorted(related, reverse=True)


def test_the_contrast_leaves_out_the_source_and_its_varieties(runs):
    comparison = compared(runs)
    assert (comparison.contrast.n_related, comparison.contrast.n_control) == (4, 12)
    gain = {row.code: row.gain for row in comparison.languages}
    expected = np.mean([gain[c] for c in RELATED]) - np.mean([gain[c] for c in CONTROL])
    assert comparison.contrast.estimate == pytest.approx(expected)
    assert comparison.overall.mean.languages == 18
    assert comparison.overall.group_means["control"].gain == pytest.approx(
        comparison.contrast.mean_control
    )


def test_log_odds_stay_finite_when_all_or_none_are_correct():
    before, after = pair(dict.fromkeys(RELATED + CONTROL, 0.6), n=10)
    before["correct"] = False
    comparison = compared((before, after))
    expected = 2 * math.log(10.5 / 0.5)
    assert comparison.languages[0].log_odds_gain == pytest.approx(expected)


def test_gold_log_probability_has_a_contrast_of_its_own(runs):
    comparison = compared(runs)
    rows = [row for row in comparison.languages if row.group in ("related", "control")]
    expected = relatedness_contrast(
        [row.gold_logprob_gain for row in rows], [row.group == "related" for row in rows], None
    )
    assert comparison.overall.contrasts["gold_logprob"] == expected
    assert comparison.overall.contrasts["gold_logprob"].tost_p is None


def test_the_chance_level_comes_from_the_number_of_choices(runs):
    assert compared(runs).chance == 0.25
    without = [rows.assign(choice_logprobs=[[]] * len(rows)) for rows in runs]
    assert compared(without).chance is None


def test_a_branch_redefines_who_is_kin(runs):
    comparison = compared(runs, source="eng_Latn", branch="Semitic")
    assert comparison.branch == "Semitic"
    assert comparison.contrast.n_related == 6
    with pytest.raises(
        ComparisonError, match=r"1 are related to Standard Arabic \(Bantu\) and 15 are"
    ):
        compared(runs, branch="Bantu")


def test_the_order_of_rows_does_not_matter(runs):
    base, tuned = runs
    shuffled = tuned.sample(frac=1, random_state=0)
    assert repr(compared((base, shuffled))) == repr(compared((base, tuned)))


def test_validity_that_was_not_measured_is_not_reported(runs):
    base, tuned = (rows.assign(valid=None) for rows in runs)
    comparison = compared((base, tuned))
    assert comparison.languages[0].before_valid is None


def test_tables_survive_parquet(runs, tmp_path):
    read = []
    for name, rows in zip(("base", "tuned"), runs, strict=True):
        rows.to_parquet(tmp_path / f"{name}.parquet")
        read.append(pd.read_parquet(tmp_path / f"{name}.parquet"))
    assert repr(compared(read)) == repr(compared(runs))


def refused(base, tuned, match):
    with pytest.raises(ComparisonError, match=match):
        compared((base, tuned))


def test_different_tasks_are_refused(runs):
    base, tuned = runs
    refused(
        base,
        tuned.assign(task="sib200"),
        "same task, but belebele in m, base; sib200 in m, tuned on arb_Arab, seed 0",
    )


def test_different_formats_are_refused(runs):
    base, tuned = runs
    refused(
        base, tuned.assign(format="cloze"), "same format, but letter in m, base; cloze in m, tuned"
    )


def test_more_than_one_task_in_a_run_is_refused(runs):
    both = [pd.concat([rows, rows.assign(task="sib200", item_id="s")[:1]]) for rows in runs]
    refused(*both, "same task, but belebele and sib200 in m, base")


def test_a_language_that_a_run_lacks_is_left_out_and_named(runs):
    base, tuned = runs
    without = compared((base, tuned[tuned["language"] != "heb_Hebr"]))
    assert "heb_Hebr" not in {row.code for row in without.languages}
    assert without.omissions == (
        Omission(OmissionReason.MISSING_LANGUAGES, run=TUNED, languages=("heb_Hebr",)),
    )
    none = base[base["language"] == "heb_Hebr"], tuned[tuned["language"] == "deu_Latn"]
    refused(*none, "no language is in all of the runs; missing are m, base: deu_Latn; m, tuned")


def test_different_items_are_refused_with_the_first_few(runs):
    base, tuned = runs
    gone = (tuned["language"] == "heb_Hebr") & (tuned["item_id"] < "item-005")
    expected = "heb_Hebr item-000, heb_Hebr item-001, heb_Hebr item-002 and 2 more in m, base, not"
    refused(base, tuned[~gone], expected)
    refused(base[~gone], tuned, "2 more in m, tuned on arb_Arab, seed 0, not in m, base")


def test_different_answers_to_one_item_are_refused(runs):
    base, tuned = runs
    tuned.loc[tuned["item_id"] == "item-003", "answer"] = 0
    refused(base, tuned, "disagree on answer of amh_Ethi item-003, .* and 15 more")


def test_different_passages_of_one_item_are_refused(runs):
    base, tuned = runs
    refused(base, tuned.assign(passage_id="one"), "disagree on passage_id")


def test_repeated_rows_are_refused(runs):
    base, tuned = runs
    twice = pd.concat([tuned, tuned[:1]])
    refused(
        base, twice, "of m, tuned on arb_Arab, seed 0 have more than one row for arb_Arab item-000"
    )


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_gold_log_probability_that_is_not_finite_is_refused(runs, value):
    base, tuned = runs
    base.loc[3, "gold_logprob"] = value
    refused(
        base, tuned, "predictions of m, base have a gold_logprob that is not finite for arb_Arab"
    )


def test_empty_and_incomplete_tables_are_refused(runs):
    base, tuned = runs
    refused(base[:0], tuned, "predictions of m, base are empty")
    refused(
        base,
        tuned.drop(columns="passage_id"),
        "predictions of m, tuned .* lack the columns passage_id",
    )


def test_a_margin_that_is_not_positive_is_refused(runs):
    with pytest.raises(ConfigError, match="`margin` must be positive"):
        compared(runs, margin=0)


def test_the_table_has_one_row_a_language(runs):
    rows = gains_frame(compared(runs))
    assert len(rows) == 18
    assert {"code", "name", "group", "gain", "low", "high", "holm_p", "branch"} <= set(rows.columns)


def test_metrics_have_names_a_tracker_takes_and_finite_values(runs):
    values = comparison_metrics(compared(runs))
    assert all(re.fullmatch(r"[A-Za-z0-9_\-. :/]+", name) for name in values)
    assert all(math.isfinite(value) for value in values.values())
    assert values["gain/arb_Arab"] == pytest.approx(0.15)
    assert values["gain_group/variety"] == pytest.approx(0.1)
    for name in ("accuracy", "log_odds", "gold_logprob"):
        assert values[f"contrast/{name}_low"] <= values[f"contrast/{name}"]
        assert values[f"contrast/{name}"] <= values[f"contrast/{name}_high"]
        assert 0 < values[f"contrast/{name}_p"] <= 1
    assert {"contrast/minimum_detectable_effect", "gain/mean", "gain_se/heb_Hebr"} <= set(values)


def test_metrics_leave_out_what_is_infinite():
    few = {code: 0.1 + 0.01 * i for i, code in enumerate((*RELATED[:2], *CONTROL[:3]))}
    values = comparison_metrics(compared(pair(few)))
    assert "contrast/accuracy_low" not in values
    assert "contrast/accuracy" in values


def test_numbers_are_printed_with_true_minus_signs_and_no_negative_zero():
    assert points(-0.0312) == "−3.1"
    assert points(0.0312) == "+3.1"
    assert points(0.3, signed=False) == "30.0"
    assert points(-0.0001) == "0.0"
    assert decimal(math.inf, 1) == "∞"
    assert decimal(math.nan, 1) == "n/a"
    assert p_value(0.0004) == "< 0.001"
    assert p_value(0.0123) == "= 0.012"
    assert p_value(0.5) == "= 0.50"


@pytest.fixture(scope="module")
def several() -> Comparison:
    return compare(study(seeds=3), source="arb_Arab")


def test_the_joint_test_is_the_contrast_of_mean_gains_by_common_relabelling(several):
    each = {
        model.label: {row.code: row.gain for row in model.languages} for model in several.models
    }
    codes = [row.code for row in several.languages if row.group in ("related", "control")]
    mean_gain = [np.mean([gain[code] for gain in each.values()]) for code in codes]
    expected = relatedness_contrast(mean_gain, [code in RELATED for code in codes], 0.03)
    assert several.contrast.estimate == pytest.approx(expected.estimate)
    assert several.contrast.permutation.p == expected.permutation.p
    assert len(several.models) == 6
    holm = several.conditions["tuned"].holm_p
    ps = [model.contrasts["accuracy"].permutation.p for model in several.models]
    assert all(raw <= adjusted <= 1 for raw, adjusted in zip(ps, holm, strict=True))


def test_seeds_are_averaged_and_each_has_its_contrast(several):
    tables = study(seeds=3)
    for model in several.models:
        assert model.seeds == ("0", "1", "2")
        assert model.contrasts["accuracy"].estimate == pytest.approx(
            np.mean(model.contrast_by_seed)
        )
    one = compare(
        {cell: rows for cell, rows in tables.items() if cell.seed in ("", "1")}, source="arb_Arab"
    )
    assert one.models[0].contrast_by_seed == ()
    assert one.models[0].contrasts["accuracy"].estimate == pytest.approx(
        several.models[0].contrast_by_seed[1]
    )


def test_the_double_difference_leaves_out_kin_of_the_other_source_and_cancels_the_base(several):
    (other,) = several.double_differences
    assert (other.code, other.related) == ("eng_Latn", RELATED)
    assert "deu_Latn" not in other.control
    tables = study(seeds=3)
    right = {cell: rows.groupby("language")["correct"].mean() for cell, rows in tables.items()}
    tuned = {
        source: sum(
            right[cell] for cell in tables if (cell.condition, cell.source) == ("tuned", source)
        )
        for source in ("arb_Arab", "eng_Latn")
    }
    difference = (tuned["arb_Arab"] - tuned["eng_Latn"]) / 18
    expected = difference[list(RELATED)].mean() - difference[list(other.control)].mean()
    assert other.contrast.estimate == pytest.approx(expected)


def test_every_other_condition_is_held_against_the_base(several):
    assert list(several.conditions) == ["tuned", "base+cot", "tuned+cot"]
    assert several.conditions["base+cot"].overall.mean.gain != several.overall.mean


def test_weak_models_gain_more_and_gains_go_together_over_models(several):
    within, over = several.baseline_slopes
    assert (within.units, within.test.n_units) == ("languages within models", 16)
    assert (over.units, over.test.n_units) == ("models", 6)
    assert over.test.interval.high < 0
    verdicts = claim_verdicts(several)
    assert verdicts.kinship == several.contrast.verdict
    assert verdicts.baseline == ClaimVerdict.WEAK_GAIN_MORE
    assert verdicts.agreement == ClaimVerdict.GAINS_AGREE
    assert verdicts.by_claim["C3"] == f"gains go together; {verdicts.size}"


def test_noise_alone_does_not_make_weak_baselines_gain_more():
    # One ability in all languages, so that baselines differ by chance and nothing else.
    rng = np.random.default_rng(0)
    before, after = pair(dict.fromkeys((*RELATED, *CONTROL), 0.2), n=200)
    for rows, share in ((before, 0.4), (after, 0.6)):
        rows["correct"] = rng.random(len(rows)) < share
    comparison = compared((before, after))
    (relation,) = comparison.baseline_slopes
    assert relation.test.naive < -0.5
    assert claim_verdicts(comparison).baseline == ClaimVerdict.INCONCLUSIVE
    assert not relation.test.interval.excludes(0.0)


def test_models_without_both_conditions_are_left_out_and_named():
    tables = study(3, seeds=1)
    del tables[RunKey("model-1", Condition.BASE)]
    comparison = compare(tables, source="arb_Arab")
    assert [model.label for model in comparison.models] == ["model-0", "model-2"]
    assert comparison.omissions[0] == Omission(
        OmissionReason.MISSING_CONDITION,
        model="model-1",
        conditions=(Condition.BASE,),
        source="arb_Arab",
    )
    with pytest.raises(
        ComparisonError,
        match="no model has both base and tuned runs with source fra_Latn: model-0 has no tuned run;",
    ):
        compare(tables, source="fra_Latn")


def test_adjusted_contrasts_take_out_what_covariates_explain(runs):
    names = [each.covariates for each in compared(runs).adjustments]
    assert names[:2] == [("baseline",), ("script",)]
    many = compare(study(1, seeds=1), source="arb_Arab").adjustments
    assert ("tokens per item",) in [each.covariates for each in many]
    for each in many:
        if each.contrast is not None:
            assert (
                each.contrast.interval.low <= each.contrast.estimate <= each.contrast.interval.high
            )
        else:
            assert each.problem


def test_tables_with_the_least_that_can_be_imported_are_compared(runs):
    least = ["task", "format", "language", "item_id", "passage_id", "correct"]
    comparison = compared([rows[least] for rows in runs])
    assert set(comparison.overall.contrasts) == {"accuracy", "log_odds"}
    assert comparison.languages[0].gold_logprob_gain is None
    assert comparison.chance is None
    assert "contrast/accuracy" in comparison_metrics(comparison)


def test_the_statistics_know_neither_tracking_nor_models() -> None:
    names = (
        *("stats.paired", "stats.contrasts", "stats.slopes", "stats.permutation", "stats.adjusted"),
        *("stats.power", "stats.decomposition", "analysis.score_matrix", "analysis.gains"),
        *("analysis.gain_slopes", "analysis.comparison", "analysis.claims", "report.verdict"),
        *("analysis.frames", "analysis.comparison_metrics"),
    )
    code = f"""
import importlib, sys
for name in {names}:
    importlib.import_module("isogloss." + name)
assert not {{"mlflow", "torch", "transformers"}} & set(sys.modules)
"""
    src = Path(__file__).parents[2] / "src"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(src)})


def test_seeds_that_some_models_lack_are_named():
    tables = study(2, seeds=2, sources=("arb_Arab",))
    del tables[RunKey("model-1", Condition.TUNED, "arb_Arab", "1")]
    comparison = compare(tables, source="arb_Arab")
    assert comparison.omissions == (
        Omission(
            OmissionReason.MISSING_SEEDS,
            model="model-1",
            conditions=(Condition.TUNED,),
            source="arb_Arab",
            seeds=("1",),
        ),
    )


def test_calling_other_languages_related_moves_no_gain(runs):
    plain, wide = compared(runs), compared(runs, branch="Afro-Asiatic")
    rows = {row.code: row for row in wide.languages}
    for row in plain.languages:
        assert replace(rows[row.code], group=row.group) == row
    only = gains(0.1, 0.05)
    changed = compared(pair({**only, "tur_Latn": 0.5}))
    before = compared(pair(only))
    for old, new in zip(
        sorted(before.languages, key=lambda row: row.code),
        sorted(changed.languages, key=lambda row: row.code),
        strict=True,
    ):
        assert (old.gain == new.gain) == (old.code != "tur_Latn")
