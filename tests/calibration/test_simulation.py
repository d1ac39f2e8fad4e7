"""Simulated studies have the truth that they say, and the calibration counts what it should."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.simulation import Design, kinship_for, population_contrast, population_slopes, simulate

ROOT = Path(__file__).parents[2]


def test_a_study_is_drawn_from_its_truth_and_its_seed() -> None:
    design = Design(items=40_000, passages=20_000, seeds=2, seed_spread=0.2, models=2)
    study = simulate(design, np.random.default_rng(0))
    for seen, true in (
        (study.base.mean(axis=-1), study.truth.base),
        (study.tuned.mean(axis=(1, -1)), study.truth.tuned),
        (study.thinking.mean(axis=-1), study.truth.thinking),
    ):
        np.testing.assert_allclose(seen, true, atol=0.015)
    small = replace(design, items=20, passages=10)
    again = [simulate(small, np.random.default_rng(1)).tuned for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert study.tuned.shape == (2, 2, 16, 40_000)
    assert len(np.unique(study.passages)) == 20_000


def test_nobody_is_favoured_under_the_null_and_kinship_is_what_was_asked_for() -> None:
    assert population_contrast(Design()) == pytest.approx(0, abs=0.003)
    assert population_contrast(kinship_for(Design(), 0.03)) == pytest.approx(0.03, abs=0.003)
    assert population_contrast(Design(baseline=1.0, gain=2.0, weaker=1.0)) > 0.02


def test_near_a_ceiling_weak_baselines_truly_gain_more() -> None:
    plain, near = (population_slopes(d)[0] for d in (Design(), Design(baseline=1.5, gain=2.0)))
    assert near < -0.3 < plain


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
    }  # fmt: skip
    rates = rows[rows["kind"].isin(["rejects", "covers"])]["value"]
    assert rates.between(0, 1).all()
    assert "| 4 related, 12 controls |" in (tmp_path / "calibration.md").read_text()


def test_what_is_committed_is_in_range_where_assumptions_hold() -> None:
    rows = pd.read_csv(ROOT / "docs/explanation/calibration.csv")
    assert rows["n"].max() >= 1000
    sound = rows[rows["sound"]].set_index(["kind", "name"])
    for name in ("permutation, accuracy", "permutation, log-odds", "distance, Spearman"):
        assert sound.loc[("rejects", name), "in_range"].all()
    for name in ("contrast, permutation", "gain of a language", "tuned less CoT"):
        assert sound.loc[("covers", name), "in_range"].all()
    claims = sound.loc[("equivalent at margin", "permutation (the verdict)")]
    assert (claims["value"] - 2 * claims["error"] <= 0.05).all()
