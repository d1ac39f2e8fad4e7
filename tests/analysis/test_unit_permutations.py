"""Whole branches and families as the units of the permutation."""

import numpy as np
import pytest
from synthetic_predictions import compare_pair, pair

from isogloss.analysis.unit_permutations import PermutedUnit, _permute
from isogloss.languages import language

GAIN = {
    **{"amh_Ethi": 0.10, "heb_Hebr": 0.12, "mlt_Latn": 0.11},  # Semitic
    **{"hau_Latn": 0.00, "som_Latn": -0.02},  # other Afro-Asiatic branches
    **{"hin_Deva": -0.05, "ben_Beng": -0.04, "deu_Latn": 0.02, "fra_Latn": 0.01},  # Indo-European
    **{"tur_Latn": 0.05, "jpn_Jpan": 0.00, "kor_Hang": 0.03, "yor_Latn": -0.03},
}
RELATED = ("amh_Ethi", "heb_Hebr", "mlt_Latn")


def unit_means(name):
    """The mean gain of each branch or family of controls."""
    units = {}
    for code, gain in GAIN.items():
        if code not in RELATED:
            units.setdefault(getattr(language(code), name), []).append(gain)
    return [np.mean(gains) for gains in units.values()]


@pytest.fixture(scope="module")
def tests():
    return compare_pair(pair(GAIN)).unit_permutations


@pytest.mark.parametrize("unit", [PermutedUnit.BRANCH, PermutedUnit.FAMILY])
def test_units_count_once_and_are_permuted_as_a_whole(tests, unit):
    related, control = [np.mean([GAIN[code] for code in RELATED])], unit_means(unit.value)
    means = [*related, *control]
    differences = [mean - (sum(means) - mean) / len(control) for mean in means]
    larger = sum(difference >= differences[0] - 1e-12 for difference in differences)
    smaller = sum(difference <= differences[0] + 1e-12 for difference in differences)
    row = tests.row(unit)
    assert (row.n_related, row.n_control) == (1, len(control))
    assert row.estimate == pytest.approx(np.mean(related) - np.mean(control))
    assert row.p == pytest.approx(min(1, 2 * min(larger, smaller) / len(means)))
    assert row.lowest_p == pytest.approx(2 / (len(control) + 1))


def test_a_family_with_related_and_control_languages_counts_as_two_units(tests):
    families = {language(code).family for code in GAIN if code not in RELATED}
    assert "Afro-Asiatic" in families
    assert tests.row(PermutedUnit.FAMILY).n_control == len(families)


def test_the_first_row_is_the_relatedness_contrast():
    comparison = compare_pair(pair(GAIN))
    row = comparison.unit_permutations.row(PermutedUnit.LANGUAGE)
    assert row.p == comparison.contrast.permutation.p
    assert row.estimate == comparison.contrast.estimate
    assert row.lowest_p == pytest.approx(2 / 286)  # 13 languages, 3 of them related


def test_languages_without_another_of_their_family_are_named(tests):
    assert set(tests.alone) == {"tur_Latn", "jpn_Jpan", "kor_Hang", "yor_Latn"}


def test_with_one_control_family_there_is_no_test_of_families():
    gain = {code: GAIN[code] for code in ("amh_Ethi", "heb_Hebr", "hin_Deva", "deu_Latn")}
    tests = compare_pair(pair(gain)).unit_permutations
    assert tests.row(PermutedUnit.FAMILY) is None
    assert tests.row(PermutedUnit.BRANCH).n_control == 2


def test_where_families_gain_together_only_their_permutation_keeps_its_level():
    rng = np.random.default_rng(0)
    family_T = np.repeat(np.arange(40), 4)
    drawn_ZT = np.array([rng.permutation(160) < 4 for _ in range(999)]) / 4
    found = {"languages": [], "families": []}
    for _ in range(400):
        gain_T = rng.normal(size=40)[family_T] + rng.normal(size=160)  # correlation .5 in a family
        gain_T -= gain_T.mean()
        larger = (np.abs(drawn_ZT @ gain_T) >= abs(gain_T[:4].mean())).mean()
        found["languages"].append(larger <= 0.05)
        mean_U = gain_T.reshape(40, 4).mean(axis=1)
        test = _permute(PermutedUnit.FAMILY, mean_U, np.arange(40) == 0, 0)
        found["families"].append(test.p <= 0.05)
    assert np.mean(found["languages"]) > 0.12
    assert np.mean(found["families"]) < 0.075
