"""Placebo branches: the same contrast for every other branch, and the rank of the source's own."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_predictions import compare_pair, pair

from isogloss.analysis.comparison import compare
from isogloss.analysis.results_frame import tables_of_results

DATA = Path(os.environ.get("ISOGLOSS_TEST_DATA", "missing")) / "negative_control"
GAIN = {
    **{"amh_Ethi": 0.10, "heb_Hebr": 0.12, "mlt_Latn": 0.11, "tir_Ethi": 0.13},
    **{"hin_Deva": -0.05, "ben_Beng": -0.04, "urd_Arab": -0.03, "mar_Deva": -0.06},
    **{"deu_Latn": 0.02, "nld_Latn": 0.01, "swe_Latn": 0.03, "jpn_Jpan": 0.00, "kor_Hang": 0.01},
}  # Semitic, Indo-Aryan, Germanic and two languages alone in their branch
INDIC = [code for code in GAIN if code.endswith(("Deva", "Beng", "urd_Arab"))]


@pytest.fixture(scope="module")
def comparison():
    return compare_pair(pair({"arb_Arab": 0.3, "ary_Arab": 0.2, **GAIN}))


def test_each_branch_of_three_or_more_is_compared_with_all_other_languages(comparison):
    rows = {row.branch: row for row in comparison.placebo.rows}
    assert set(rows) == {"Semitic", "Indo-Aryan", "Germanic"}
    assert sorted(rows["Indo-Aryan"].languages) == sorted(INDIC)
    inside = [GAIN[code] for code in INDIC]
    outside = [gain for code, gain in GAIN.items() if code not in INDIC]
    peer = stats.permutation_test(
        (inside, outside), lambda x, y: np.mean(x) - np.mean(y), n_resamples=np.inf
    )
    assert rows["Indo-Aryan"].estimate == pytest.approx(np.mean(inside) - np.mean(outside))
    assert rows["Indo-Aryan"].p == pytest.approx(peer.pvalue)


def test_the_relatives_of_the_source_have_the_relatedness_contrast(comparison):
    own = comparison.placebo.source
    assert own.estimate == pytest.approx(comparison.contrast.estimate)
    assert own.p == comparison.contrast.permutation.p
    assert own.interval == comparison.contrast.permutation.interval_95


def test_the_rank_is_by_size_of_the_difference_in_either_direction(comparison):
    sizes = {row.branch: abs(row.estimate) for row in comparison.placebo.rows}
    assert sizes["Semitic"] > sizes["Indo-Aryan"] > sizes["Germanic"]
    assert (comparison.placebo.rank, comparison.placebo.n) == (1, 3)
    assert [row.branch for row in comparison.placebo.rows] == ["Semitic", "Germanic", "Indo-Aryan"]
    smaller = {code: gain / 4 if gain >= 0.1 else gain for code, gain in GAIN.items()}
    assert compare_pair(pair(smaller)).placebo.rank == 2


def test_branches_that_differ_as_much_come_before_the_source():
    codes = ("amh_Ethi", "heb_Hebr", "mlt_Latn", "deu_Latn", "nld_Latn", "swe_Latn", "jpn_Jpan")
    equal = compare_pair(pair({code: 0.1 * (code != "jpn_Jpan") for code in codes})).placebo
    assert (equal.rank, equal.n) == (2, 2)


def test_without_another_branch_of_three_the_source_is_first_of_one():
    gain = {code: GAIN[code] for code in ("amh_Ethi", "heb_Hebr", "jpn_Jpan", "kor_Hang")}
    placebo = compare_pair(pair(gain)).placebo
    assert (placebo.rank, placebo.n, placebo.others) == (1, 1, ())


def test_a_branch_with_relatives_of_the_source_is_no_placebo():
    comparison = compare_pair(pair(GAIN), branch="Afro-Asiatic")
    assert {row.branch for row in comparison.placebo.others} == {"Indo-Aryan", "Germanic"}
    west = compare_pair(pair(GAIN), branch="West Germanic")
    assert {row.branch for row in west.placebo.others} == {"Semitic", "Indo-Aryan"}


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ISOGLOSS_TEST_DATA")
def test_half_of_the_branches_are_significant_where_nothing_was_tuned():
    results = pd.read_csv(DATA / "sib200_two_systems.csv.gz")
    placebo = compare(tables_of_results(results, "arb_Arab"), source="arb_Arab").placebo
    assert (placebo.n, placebo.n_significant) == (16, 8)
    assert placebo.rank == 4
    assert 100 * placebo.source.estimate == pytest.approx(10.95, abs=0.05)
