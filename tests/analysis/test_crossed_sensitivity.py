"""The effect of kinship without each branch of sources, and on other measures."""

import numpy as np
import pytest

from isogloss.analysis.crossed_sensitivity import (
    effects_on_measures,
    effects_without,
    verdict_on_kinship,
)
from isogloss.stats.crossed import crossed_effect
from isogloss.types import Measure, Verdict

BRANCHES = ["Semitic", "Turkic", "Slavic", "Germanic", "Romance", "Bantu"]
SOURCES = ["arb_Arab", "tur_Latn", "rus_Cyrl", "deu_Latn", "fra_Latn", "swh_Latn"]
KIN_ST = np.kron(np.eye(6), np.ones(3))


def one_strong_source(effect: float = 0.2) -> np.ndarray:
    """Kinship is worth a point from five sources and `effect` from the last."""
    rng = np.random.default_rng(5)
    strength_S = np.array([0.01] * 5 + [effect])
    noise_ST = rng.normal(0, 0.002, KIN_ST.shape)
    return strength_S[:, None] * KIN_ST + noise_ST + rng.uniform(0.1, 0.3, 18)


def slope(gain_ST: np.ndarray, kin_ST: np.ndarray) -> float:
    """Kinship beside indicators of rows and of targets, by least squares."""
    rows, targets = np.indices(kin_ST.shape).reshape(2, -1)
    design = np.column_stack(
        [kin_ST.ravel(), np.eye(len(kin_ST))[rows], np.eye(kin_ST.shape[1])[targets]]
    )
    return np.linalg.lstsq(design, gain_ST.ravel(), rcond=None)[0][0]


def test_each_branch_is_left_out_once_and_one_strong_source_shows():
    gain_ST = one_strong_source()
    results = effects_without(gain_ST, KIN_ST, SOURCES, BRANCHES, 0.03, 0)
    assert [each.branch for each in results] == BRANCHES
    assert [each.sources for each in results] == [(code,) for code in SOURCES]
    for place, each in enumerate(results):
        kept = np.arange(6) != place
        assert each.effect.estimate == pytest.approx(slope(gain_ST[kept], KIN_ST[kept]))
    assert results[-1].effect.estimate == pytest.approx(0.01, abs=0.003)
    assert results[-1].verdict == Verdict.EQUIVALENT
    assert all(each.effect.estimate > 0.04 for each in results[:-1])


def test_sources_of_one_branch_are_left_out_together():
    branches = ["Semitic", "Semitic", *BRANCHES[1:5]]
    kin_ST = KIN_ST[[0, 0, 1, 2, 3, 4]]
    results = effects_without(one_strong_source(), kin_ST, SOURCES, branches, 0.03, 0)
    assert results[0].sources == ("arb_Arab", "tur_Latn")
    assert results[0].effect.n_sources == 4
    assert len(results) == 5


def test_too_few_other_sources_have_an_effect_without_verdict_or_none_at_all():
    gain_ST = one_strong_source()
    results = effects_without(gain_ST[:4], KIN_ST[:4], SOURCES[:4], BRANCHES[:4], 0.03, 0)
    assert [each.verdict for each in results] == [None] * 4
    assert results[0].effect.matchings == 6
    assert effects_without(gain_ST[:2], KIN_ST[:2], SOURCES[:2], BRANCHES[:2], 0.03, 0) == ()
    assert verdict_on_kinship(crossed_effect(gain_ST[:4], KIN_ST[:4], BRANCHES[:4])) is not None


def test_other_measures_have_the_effect_of_their_own_gains():
    gain_ST = one_strong_source()
    gains = {Measure.ACCURACY: gain_ST, Measure.GOLD_LOGPROB: -3 * gain_ST}
    results = effects_on_measures(gains, KIN_ST, BRANCHES, 0)
    assert list(results) == [Measure.GOLD_LOGPROB]
    effect = results[Measure.GOLD_LOGPROB]
    assert effect.estimate == pytest.approx(-3 * slope(gain_ST, KIN_ST))
    assert effect.p == crossed_effect(gain_ST, KIN_ST, BRANCHES).p
    assert effect.equivalence_p is None
