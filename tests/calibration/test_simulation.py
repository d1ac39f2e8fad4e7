"""Simulated studies have the truth they state; the committed calibration is current and in range."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.calibrate import DESIGNS
from scripts.calibrate_checks import CHECKS, GATES, LEVELS
from scripts.calibrate_crossed import POPULATIONS
from scripts.calibration_page import page
from scripts.simulation import Design, kinship_for, population_contrast, population_slopes, simulate

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs/explanation"


def test_observed_accuracies_are_those_of_the_truth() -> None:
    design = Design(items=40_000, passages=20_000, seeds=2, seed_spread=0.2, models=2)
    study = simulate(design, np.random.default_rng(0))
    for observed, truth in (
        (study.base.mean(axis=-1), study.truth.base),
        (study.tuned.mean(axis=(1, -1)), study.truth.tuned),
        (study.cot.mean(axis=-1), study.truth.cot),
    ):
        np.testing.assert_allclose(observed, truth, atol=0.015)
    assert study.tuned.shape == (2, 2, 16, 40_000)
    assert len(np.unique(study.passages)) == 20_000


def test_a_study_is_determined_by_its_seed() -> None:
    design = replace(Design(seeds=2, seed_spread=0.2), items=20, passages=10)
    first, again, other = (
        simulate(design, np.random.default_rng(seed)).tuned for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_contrast_is_zero_without_kinship_and_as_requested_with_it() -> None:
    assert population_contrast(Design()) == pytest.approx(0, abs=0.003)
    assert population_contrast(kinship_for(Design(), 0.03)) == pytest.approx(0.03, abs=0.003)
    # Weaker baselines leave more room to gain below the ceiling.
    assert population_contrast(Design(baseline=1.0, gain=2.0, related_deficit=1.0)) > 0.02


def test_weak_baselines_gain_more_near_the_ceiling() -> None:
    default, near = (
        population_slopes(design)[0] for design in (Design(), Design(baseline=1.5, gain=2.0))
    )
    assert near < -0.3 < default


@pytest.mark.real
def test_the_script_writes_its_two_files(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "scripts.calibrate", "--studies", "4", "--jobs", "2",
         "--out", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, env={"PYTHONPATH": "src", "PATH": ""},
    )  # fmt: skip
    rows = pd.read_csv(tmp_path / "calibration.csv")
    assert set(rows["kind"]) == {
        "rejects", "covers", "share", "bias", "equivalent at margin", "power",
        "crossed rejects", "crossed covers", "crossed equivalent", "crossed power",
        "gates", "levels", "checks reject",
    }  # fmt: skip
    rates = rows[rows["kind"].isin(["rejects", "covers"])]["value"]
    assert rates.between(0, 1).all()
    committed = pd.read_csv(DOCS / "calibration.csv")
    quantities = ["design", "kind", "name"]
    assert set(rows[quantities].itertuples(index=False, name=None)) == set(
        committed[quantities].itertuples(index=False, name=None)
    )
    assert "| 4 related, 12 controls |" in (tmp_path / "calibration.md").read_text()


def test_the_committed_page_is_that_of_the_committed_numbers() -> None:
    rows = pd.read_csv(DOCS / "calibration.csv")
    assert (DOCS / "calibration.md").read_text(encoding="utf-8") == page(
        rows, DESIGNS, POPULATIONS, {**GATES, **LEVELS}, CHECKS
    )


def test_the_committed_rates_are_in_range_where_assumptions_hold() -> None:
    rows = pd.read_csv(DOCS / "calibration.csv")
    assert rows["n"].max() >= 1000
    sound = rows[rows["sound"]].set_index(["kind", "name"])
    for name in ("permutation, accuracy", "permutation, log-odds", "distance, Spearman"):
        assert sound.loc[("rejects", name), "in_range"].all()
    for name in ("contrast, permutation", "gain of one language", "tuned minus CoT accuracy"):
        assert sound.loc[("covers", name), "in_range"].all()
    equivalent = sound.loc[("equivalent at margin", "permutation (the verdict)")]
    assert (equivalent["value"] - 2 * equivalent["error"] <= 0.05).all()
