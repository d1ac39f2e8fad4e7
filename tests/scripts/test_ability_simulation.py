"""False findings of a simulated study where only baselines differ."""

import numpy as np
import pytest

from scripts.ability_simulation import GAIN, LEVELS, RELATED, kinship_p, simulated_answers, slope_p


def test_an_equal_gain_near_the_ceiling_is_a_contrast_in_accuracy_and_none_in_ability() -> None:
    ceiling = next(level for level in LEVELS if level.name == "ceiling")
    answers = simulated_answers(ceiling, 1000, np.random.default_rng(0))
    gain_L = answers.after.mean(axis=1) - answers.before.mean(axis=1)
    assert gain_L[:RELATED].mean() > gain_L[RELATED:].mean() + 0.02
    p, slope = dict(kinship_p(answers)), dict(slope_p(answers))
    assert (list(p), list(slope)) == (["accuracy", "log-odds", "ability"], ["accuracy", "ability"])
    assert p["accuracy"] < 0.05 < p["ability"]
    assert slope["accuracy"] < 0.05 < slope["ability"]


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_relatives_are_weaker_before_by_as_much_as_all_languages_gain(level) -> None:
    assert level.control - level.related == GAIN
