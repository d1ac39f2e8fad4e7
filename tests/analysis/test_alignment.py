"""Tables of predictions are put on common rows, or rejected with what differs."""

import math

import numpy as np
import pandas as pd
import pytest
from synthetic_predictions import BASE, TUNED, compare_pair, study

from isogloss.analysis.alignment import align
from isogloss.analysis.comparison import compare
from isogloss.analysis.omissions import Omission, OmissionReason
from isogloss.errors import ComparisonError, ConfigError
from isogloss.types import Measure


def assert_rejected(base: pd.DataFrame, tuned: pd.DataFrame, message: str) -> None:
    with pytest.raises(ComparisonError, match=message):
        compare_pair((base, tuned))


def test_rows_are_ordered_by_language_and_item_and_stacked(runs):
    base, tuned = runs
    scores, omissions = align({BASE: base.sample(frac=1, random_state=0), TUNED: tuned})
    assert omissions == ()
    assert scores.runs == (BASE, TUNED)
    assert list(scores.languages) == sorted(set(base["language"]))
    ordered = tuned.sort_values(["language", "item_id"])
    np.testing.assert_array_equal(scores.correct[1], ordered["correct"])
    np.testing.assert_array_equal(
        np.array(scores.languages)[scores.row_language], ordered["language"]
    )
    for rows, code in zip(scores.slices, scores.languages, strict=True):
        expected = tuned[tuned["language"] == code]["correct"].mean()
        assert scores.correct[1, rows].mean() == expected
    assert scores.counts.shape == (100, 18)
    assert (scores.counts == 2).all()


def test_free_and_forced_correctness_come_from_the_choices(runs):
    base, tuned = runs
    scores, _ = align({BASE: base, TUNED: tuned})
    ordered = base.sort_values(["language", "item_id"])
    np.testing.assert_array_equal(scores.forced[0], ordered["correct"])
    np.testing.assert_array_equal(scores.free[0], ordered["correct"] & ordered["valid"])


def test_the_order_of_rows_does_not_matter(runs):
    base, tuned = runs
    shuffled = tuned.sample(frac=1, random_state=0)
    assert repr(compare_pair((base, shuffled))) == repr(compare_pair((base, tuned)))


def test_parquet_files_give_the_same_comparison(runs, tmp_path):
    from_file = []
    for name, rows in zip(("base", "tuned"), runs, strict=True):
        rows.to_parquet(tmp_path / f"{name}.parquet")
        from_file.append(pd.read_parquet(tmp_path / f"{name}.parquet"))
    assert repr(compare_pair(from_file)) == repr(compare_pair(runs))


def test_the_required_columns_are_sufficient(runs):
    required = ["task", "format", "language", "item_id", "passage_id", "correct"]
    comparison = compare_pair([rows[required] for rows in runs])
    assert set(comparison.overall.contrasts) == {
        Measure.ACCURACY,
        Measure.LOG_ODDS,
        Measure.ABILITY,
    }
    assert comparison.languages[0].gold_logprob_gain is None
    assert comparison.languages[0].free_gain is None
    assert comparison.chance is None


def test_the_chance_level_is_that_of_the_number_of_choices(runs):
    assert compare_pair(runs).chance == 0.25
    without_choices = [rows.assign(choice_logprobs=[[]] * len(rows)) for rows in runs]
    assert compare_pair(without_choices).chance is None


def test_a_missing_language_is_left_out_of_all_runs(runs):
    base, tuned = runs
    comparison = compare_pair((base, tuned[tuned["language"] != "heb_Hebr"]))
    assert "heb_Hebr" not in {row.code for row in comparison.languages}
    assert comparison.omissions == (
        Omission(OmissionReason.MISSING_LANGUAGES, run=TUNED, languages=("heb_Hebr",)),
    )


def test_runs_without_a_common_language_raise(runs):
    base, tuned = runs
    assert_rejected(
        base[base["language"] == "heb_Hebr"],
        tuned[tuned["language"] == "deu_Latn"],
        "no language is in all of the runs; missing are m, base: deu_Latn; m, tuned on arb_Arab",
    )


def test_tokens_are_per_item_if_some_language_is_written_without_spaces():
    with_japanese, _ = align(study(1, seeds=1))
    assert not with_japanese.per_word
    words = ("amh_Ethi", "heb_Hebr", "deu_Latn", "fra_Latn")
    tables = study(1, seeds=1, languages=words)
    scores, _ = align(tables)
    assert scores.per_word
    expected = [
        np.mean(
            [
                rows[rows["language"] == code]["tokens"].sum()
                / rows[rows["language"] == code]["words"].sum()
                for rows in tables.values()
            ]
        )
        for code in sorted(words)
    ]
    np.testing.assert_allclose(scores.fertility, expected)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("task", "sib200", "same task, but belebele in m, base; sib200 in m, tuned on arb_Arab,"),
        ("format", "cloze", "same format, but letter in m, base; cloze in m, tuned on arb_Arab,"),
    ],
)
def test_different_settings_raise(runs, column, value, message):
    base, tuned = runs
    assert_rejected(base, tuned.assign(**{column: value}), message)


def test_several_tasks_in_one_run_raise(runs):
    both = [pd.concat([rows, rows.assign(task="sib200", item_id="s")[:1]]) for rows in runs]
    assert_rejected(*both, "same task, but belebele and sib200 in m, base")


def test_different_items_raise_and_the_first_are_named(runs):
    base, tuned = runs
    removed = (tuned["language"] == "heb_Hebr") & (tuned["item_id"] < "item-005")
    first = "heb_Hebr item-000, heb_Hebr item-001, heb_Hebr item-002 and 2 more in m, base, not"
    assert_rejected(base, tuned[~removed], first)
    assert_rejected(base[~removed], tuned, "2 more in m, tuned on arb_Arab, seed 0, not in m, base")


def test_different_answers_raise(runs):
    base, tuned = runs
    tuned.loc[tuned["item_id"] == "item-003", "answer"] = 0
    assert_rejected(base, tuned, "disagree on answer of amh_Ethi item-003, .* and 15 more")


def test_different_passages_raise(runs):
    base, tuned = runs
    assert_rejected(base, tuned.assign(passage_id="one"), "disagree on passage_id of amh_Ethi")


def test_repeated_rows_raise(runs):
    base, tuned = runs
    repeated = pd.concat([tuned, tuned[:1]])
    message = "of m, tuned on arb_Arab, seed 0 have more than one row for arb_Arab item-000"
    assert_rejected(base, repeated, message)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_gold_log_probability_that_is_not_finite_raises(runs, value):
    base, tuned = runs
    base.loc[3, "gold_logprob"] = value
    assert_rejected(base, tuned, "m, base have a gold_logprob that is not finite for arb_Arab")


def test_a_missing_value_of_correct_raises(runs):
    base, tuned = runs
    base["correct"] = base["correct"].astype(object)
    base.loc[3, "correct"] = None
    assert_rejected(base, tuned, "m, base have no value of `correct` for arb_Arab item-003")


def test_empty_and_incomplete_tables_raise(runs):
    base, tuned = runs
    assert_rejected(base[:0], tuned, "predictions of m, base are empty")
    without = tuned.drop(columns="passage_id")
    assert_rejected(base, without, "predictions of m, tuned .* lack the columns passage_id")
    with pytest.raises(ComparisonError, match="no model has both base and tuned runs"):
        compare({}, source="arb_Arab")


def test_an_unknown_language_raises(runs):
    with pytest.raises(ConfigError, match="xyz_Latn"):
        compare_pair([rows.replace({"language": {"heb_Hebr": "xyz_Latn"}}) for rows in runs])
