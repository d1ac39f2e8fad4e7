"""Simulated crossed studies have the truth they state; the committed rates are in range."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isogloss.stats.crossed import crossed_effect
from scripts import negative_control
from scripts.calibrate_crossed import POPULATIONS, CrossedTask, run_task
from scripts.crossed_simulation import (
    CrossedPopulation,
    crossed_kinship_for,
    kinship_effect,
    population_effect,
    simulate_crossed,
)

CSV = Path(__file__).parents[2] / "docs/explanation/calibration.csv"
DATA = Path(os.environ.get("ISOGLOSS_TEST_DATA", "missing")) / "negative_control"


def test_observed_gains_are_those_of_the_truth() -> None:
    population = CrossedPopulation(relatives=(2, 2), items=30_000, passages=15_000, kinship=0.5)
    study = simulate_crossed(population, np.random.default_rng(0))
    np.testing.assert_allclose(study.gain, study.truth, atol=0.015)


def test_a_study_has_the_shape_and_the_missing_cells_of_its_population() -> None:
    population = CrossedPopulation(
        relatives=(3, 4, 5, 3, 2), sources=4, sources_evaluated=True, missing=0.2,
        items=4, passages=2,
    )  # fmt: skip
    study = simulate_crossed(population, np.random.default_rng(1))
    assert study.gain.shape == (4, 3 + 4 + 5 + 3 + 4 + 2)
    assert list(population.kin.sum(axis=1)) == [4, 5, 6, 4]
    assert list(population.is_source.sum(axis=1)) == [1, 1, 1, 1]
    assert (population.is_source & population.kin).sum() == 4
    assert np.isnan(study.gain[population.is_source]).all()
    assert 0.1 < np.isnan(study.gain[~population.is_source]).mean() < 0.3


def test_gains_correlate_within_branches_as_stated() -> None:
    population = CrossedPopulation(
        relatives=(2,) * 400, gain_spread=0.3, family_correlation=0.8, adapter_spread=0,
        items=1, passages=1,
    )  # fmt: skip
    truth = simulate_crossed(replace(population), np.random.default_rng(2)).truth[0]
    first, second = truth[::2], truth[1::2]
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.8, abs=0.08)


def test_the_effect_is_zero_without_kinship_and_as_requested_with_it() -> None:
    assert population_effect(CrossedPopulation()) == pytest.approx(0, abs=0.002)
    population = crossed_kinship_for(CrossedPopulation(), 0.03)
    assert population_effect(population) == pytest.approx(0.03, abs=2e-4)


def test_the_effect_of_complete_gains_is_that_of_the_estimator() -> None:
    population = CrossedPopulation(relatives=(2, 3, 4), items=20, passages=10)
    gain = simulate_crossed(population, np.random.default_rng(3)).gain
    effect = crossed_effect(gain, population.kin, ["a", "b", "c"])
    assert kinship_effect(gain, population.kin) == pytest.approx(effect.estimate)


@pytest.mark.parametrize("kind", ["null", "three points"])
def test_a_task_gives_one_value_per_study_and_is_determined_by_its_seed(kind: str) -> None:
    task = CrossedTask("6 sources, 3 to 5 relatives, sources evaluated", kind, 0, 3)
    values = run_task(task)
    assert {len(numbers) for (name, _), numbers in values.items() if name != "pilot"} == {3}
    assert run_task(task) == values


def test_the_committed_rates_of_crossed_designs_are_in_range() -> None:
    table = pd.read_csv(CSV)
    rows = table[table["sound"]].set_index(["kind", "name"])
    rejected = table[(table["kind"] == "crossed rejects") & (table["name"] == "crossed")]
    assert set(rejected["design"]) == set(POPULATIONS)
    assert (rejected["n"] >= 1000).all()
    for _, row in rejected[rejected["sound"]].iterrows():
        assert 0.03 - 2 * row["error"] <= row["value"] <= 0.07
    for _, row in rows.loc[[("crossed rejects", "crossed, verdict of kinship")]].iterrows():
        assert row["value"] <= 0.07
    for effect in (0, 3, 6):
        for _, row in rows.loc[[("crossed covers", f"{effect} points, matchings")]].iterrows():
            assert 0.93 - 2 * row["error"] <= row["value"] <= 0.97 + 2 * row["error"]
    equivalent = rows.loc[[("crossed equivalent", "crossed")]]
    assert (equivalent["value"] - 2 * equivalent["error"] <= 0.05).all()
    for effect in (3, 6):
        found, predicted = (
            rows.loc[[("crossed power", f"{effect} points, {name}")]].set_index("design")["value"]
            for name in ("crossed", "predicted")
        )
        assert (found - predicted).abs().max() < 0.1


def test_pseudo_adapters_that_answer_all_items_like_the_newer_system_gain_what_it_gains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    change = rng.integers(-1, 2, (5, 200)).astype(float)
    monkeypatch.setattr(negative_control, "LEAST_SHARE", 1.0)
    whole = negative_control.pseudo_gains(change, 3, rng)
    np.testing.assert_allclose(whole, np.broadcast_to(change.mean(axis=1), (3, 5)))
    monkeypatch.setattr(negative_control, "LEAST_SHARE", 0.1)
    many = negative_control.pseudo_gains(change, 4000, rng)
    np.testing.assert_allclose(many.mean(axis=0), 0.55 * change.mean(axis=1), atol=0.01)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ISOGLOSS_TEST_DATA")
def test_no_more_than_chance_finds_kinship_in_the_negative_control() -> None:
    answers = negative_control.read_answers(DATA / "sib200_two_systems.csv.gz")
    assert len(answers.codes) == 205
    rng = np.random.default_rng(0)
    findings = [negative_control.random_study(answers, rng) for _ in range(30)]
    assert np.mean([finding.kinship for finding in findings]) <= 0.07
