"""Gain and baseline on a scale of ability."""

import numpy as np
import pytest
from synthetic_predictions import CONTROL, RELATED, compare_pair, pair

from isogloss.analysis.ability import ability
from isogloss.report.claims import claim_texts

CODES = (*RELATED, *CONTROL)


def test_ability_is_the_log_odds_of_what_is_not_guessed():
    accuracy, n = np.array([0.625, 0.8125, 0.25, 0.1, 1.0]), np.full(5, 1e6)
    logits, derivative = ability(accuracy, n, 0.25)
    assert logits[:2] == pytest.approx([0, np.log(3)], abs=1e-5)
    assert logits[2] == logits[3] < -10 < 10 < logits[4] < np.inf
    step = 1e-4
    numeric = (ability(accuracy + step, n, 0.25)[0] - logits) / step
    assert derivative[:2] == pytest.approx(numeric[:2], rel=1e-3)
    assert derivative[3] == 0
    assert ability(np.array([0.5]), np.array([10.0]), 0.0)[0] == pytest.approx(0)


def test_an_equal_gain_in_ability_near_a_ceiling_has_no_slope():
    rng = np.random.default_rng(0)
    level = dict(zip(CODES, rng.normal(2.0, 0.8, 16), strict=True))
    before, after = pair(dict.fromkeys(CODES, 0.1), n=600)
    for rows, gain in ((before, 0.0), (after, 1.0)):
        share = 0.25 + 0.75 / (1 + np.exp(-rows["language"].map(level) - gain))
        rows["correct"] = rng.random(len(rows)) < share
    comparison = compare_pair((before, after))
    (accuracy,), (logits,) = comparison.baseline_slopes, comparison.ability_slopes
    assert accuracy.test.interval.high < 0
    assert not logits.test.interval.excludes(0.0)
    assert abs(logits.test.slope) < 0.15
    weak = claim_texts(comparison)[1]
    assert weak.verdict == "weak baselines gain more"
    assert any(
        "(log-odds of accuracy, corrected for guessing): no relation" in line
        for line in weak.details
    )
