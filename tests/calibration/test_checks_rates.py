"""Gates, levels of several models and checks of one source: simulated as stated, rates in range."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.calibrate_checks import CHECKS, GATES, LEVELS, CheckTask, run_task
from scripts.simulation import Design, simulate

CSV = Path(__file__).parents[2] / "docs/explanation/calibration.csv"


@pytest.mark.parametrize(("setting", "points"), list(zip(LEVELS, (0.0, 0.03, 0.10), strict=True)))
def test_two_gains_differ_by_the_stated_number_of_points(setting: str, points: float) -> None:
    design = LEVELS[setting]
    many = Design(**{**vars(design), "control": 2000, "models": 1, "items": 2, "passages": 2})
    truth = simulate(many, np.random.default_rng(0)).truth
    assert (truth.tuned - truth.cot).mean() == pytest.approx(points, abs=0.002)


@pytest.mark.parametrize("setting", [next(iter(GATES)), next(iter(LEVELS)), next(iter(CHECKS))])
def test_a_task_gives_one_value_per_study_and_is_determined_by_its_seed(setting: str) -> None:
    task = CheckTask(setting, 0, 3)
    values = run_task(task)
    assert {len(numbers) for numbers in values.values()} == {3}
    assert run_task(task) == values


def test_the_committed_rates_of_gates_and_checks_are_in_range() -> None:
    table = pd.read_csv(CSV)
    rows = table[table["kind"].isin(["gates", "levels", "checks reject"])]
    assert set(rows["design"]) == {*GATES, *LEVELS, *CHECKS}
    # A permutation of languages is what the checks are there to doubt.
    sound = rows[rows["name"] != "languages permuted"]
    assert sound["in_range"].all()
    languages = rows[rows["name"] == "languages permuted"].set_index("design")["value"]
    assert languages.iloc[0] <= 0.07 < languages.iloc[1:].min()
