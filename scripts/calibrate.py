"""Rejection rates of tests and coverage of intervals, in simulated studies with a known truth.

    OMP_NUM_THREADS=1 python -m scripts.calibrate [--studies 2000] [--jobs 2] [--page-only]
        [--crossed NAME ...] [--checks]

Writes calibration.csv, one row per quantity, and calibration.md to docs/explanation. With
--page-only the page is written from the existing CSV file; with --crossed only the named crossed
designs (without a name: all), and with --checks only gates, levels of models and checks of one
source, are simulated and their rows replaced. `make calibrate` runs it.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from isogloss.errors import ComparisonError
from isogloss.stats.adjusted import freedman_lane, shared_noise, without_shared_noise
from isogloss.stats.contrasts import relatedness_contrast
from isogloss.stats.paired import holm, paired_gain
from isogloss.stats.power import power
from isogloss.stats.slopes import noise_free_scatter, pool_scatters, scatter, slope_test
from isogloss.stats.t_tests import mean_test
from isogloss.threads import usable_cores
from isogloss.types import BoolArray, FloatArray
from scripts.calibrate_checks import CHECKS, GATES, LEVELS, run_checks, summarise_checks
from scripts.calibrate_crossed import POPULATIONS, gather, run_crossed, summarise_crossed
from scripts.calibration_page import page
from scripts.simulation import (
    Design,
    Study,
    kinship_for,
    population_contrast,
    population_slopes,
    population_slopes_of_models,
    simulate,
)

DOCS = Path(__file__).parent.parent / "docs/explanation"
MARGIN = 0.03
EFFECT = 0.06
DRAWS = 999
STUDIES_PER_TASK = 25
LANGUAGES_TESTED = 4  # per study, for tests of one language; Holm's adjustment is over all

SOUND = {
    "4 related, 8 controls": Design(control=8),
    "4 related, 12 controls": Design(),
    "4 related, 20 controls": Design(control=20),
    "no spread of gains": Design(gain_spread=0.0),
    "large spread of gains (0.5)": Design(gain_spread=0.5),
    "near the ceiling": Design(baseline=1.0, baseline_spread=1.0, gain=2.0),
    "32 items, 16 passages": Design(items=32, passages=16),
    "100 items, 100 passages": Design(items=100, passages=100),
    "three seeds": Design(items=200, passages=108, seeds=3, seed_spread=0.3),
    "six models": Design(items=200, passages=108, models=6, ability_discount=0.4),
    "12 related, 20 controls": Design(related=12, control=20, gain_spread=0.1),
}
VIOLATED = {
    "related spread three times as large": Design(related_spread_factor=3.0),
    "weaker related baselines, near the ceiling": Design(
        baseline=1.0, gain=2.0, related_deficit=1.0
    ),
    "weaker related baselines, 100 items": Design(items=100, passages=100, related_deficit=0.8),
}
DESIGNS = {**SOUND, **VIOLATED}
KINDS = {"null": 1.0, "no gain": 0.5, "margin": 0.5, "power": 0.5}  # shares of the studies
TARGETS = {"rejects": (0.03, 0.07), "covers": (0.93, 0.97), "equivalent at margin": (0.0, 0.05)}

Key = tuple[str, str]  # kind and name of a quantity
Quantities = Iterator[tuple[Key, float]]


class Task(NamedTuple):
    """Some studies of a design; `kind` is null, no gain, margin or power."""

    design: str
    kind: str
    seed: tuple[int, int, int]
    studies: int


def main() -> None:
    """Simulate, count, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000, help="per design under the null")
    parser.add_argument("--jobs", type=int, default=usable_cores().number, help="processes")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the two files")
    parser.add_argument("--page-only", action="store_true", help="write the page from the CSV file")
    parser.add_argument(
        "--crossed", nargs="*", choices=POPULATIONS, metavar="NAME", help="only crossed designs"
    )
    parser.add_argument("--checks", action="store_true", help="only gates, levels and checks")
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    csv, effort = arguments.out / "calibration.csv", (arguments.studies, arguments.jobs)
    if not arguments.page_only:
        part = arguments.checks or arguments.crossed is not None
        rows = [] if part else [*summarise(run_all(*effort))]
        if arguments.crossed is not None or not part:
            rows += summarise_crossed(run_crossed(*effort, arguments.crossed or list(POPULATIONS)))
        if arguments.checks or not part:
            rows += summarise_checks(run_checks(*effort))
        table = pd.DataFrame(rows)
        if part:
            table = _replaced(pd.read_csv(csv), table)
        table.to_csv(csv, index=False, float_format="%.5g")
    text = page(pd.read_csv(csv), DESIGNS, POPULATIONS, {**GATES, **LEVELS}, CHECKS)
    (arguments.out / "calibration.md").write_text(text, encoding="utf-8")


def _replaced(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table without those of the designs in `new`, and these."""
    return pd.concat([old[~old["design"].isin(new["design"])], new])


def run_all(studies: int, jobs: int) -> dict[tuple[str, str, str], list[float]]:
    """Values of every quantity by (design, kind, name), one per study."""
    tasks = [
        Task(name, kind, (design, kind_number, number), STUDIES_PER_TASK)
        for design, name in enumerate(DESIGNS)
        for kind_number, (kind, share) in enumerate(KINDS.items())
        for number in range(max(1, round(studies * share / STUDIES_PER_TASK)))
    ]
    return gather(run, tasks, jobs, lambda task: task.design)


def run(task: Task) -> dict[Key, list[float]]:
    """Values of every quantity in some studies, one per study; NaN where undefined."""
    design = DESIGNS[task.design]
    if task.kind == "margin":
        design = kinship_for(design, MARGIN)
    elif task.kind == "power":
        design = kinship_for(design, EFFECT)
    elif task.kind == "no gain":
        design = replace(design, gain=0.0, gain_spread=0.0, ability_discount=0.0, seed_spread=0.0)
    rng = np.random.default_rng(task.seed)
    values: dict[Key, list[float]] = defaultdict(list)
    measure = {"null": _null, "no gain": _no_gain, "margin": _margin, "power": _power}[task.kind]
    for _ in range(task.studies):
        for key, value in measure(design, simulate(design, rng), rng):
            values[key].append(float(value))
    return dict(values)


def _null(design: Design, study: Study, rng: np.random.Generator) -> Quantities:
    """Tests and intervals where kinship has no effect."""
    related_L = design.is_related
    after_MLI = study.tuned.mean(axis=1)
    change_MLI = after_MLI - study.base
    gain_ML = change_MLI.mean(axis=2)
    gain_L = gain_ML.mean(axis=0)
    p = _item_level_p(change_MLI.mean(axis=0), related_L)
    yield ("rejects", "z test with items as units"), p <= 0.05
    yield from _contrasts(design, study, gain_ML)
    yield from _adjusted(study, gain_L, related_L, rng)
    distance_L = stats.rankdata(rng.integers(1, 5, len(related_L)))
    rank_L = stats.rankdata(gain_L)
    if np.ptp(distance_L):
        test = slope_test(
            yx=noise_free_scatter(rank_L, distance_L),
            xx=noise_free_scatter(distance_L, distance_L),
            yy=noise_free_scatter(rank_L, rank_L),
            draws=DRAWS,
            studentized=False,
        )
        yield ("rejects", "distance, Spearman"), test.p <= 0.05
    true_gain_L = (study.truth.tuned - study.truth.base).mean(axis=0)
    for language in rng.choice(len(related_L), LANGUAGES_TESTED, replace=False):
        gain = paired_gain(
            study.base[:, language].mean(axis=0),
            after_MLI[:, language].mean(axis=0),
            study.passages,
        )
        yield ("covers", "gain of one language"), not gain.interval.excludes(true_gain_L[language])
    yield from _slopes(design, study)


def _contrasts(design: Design, study: Study, gain_ML: FloatArray) -> Quantities:
    related_L, several = design.is_related, design.models > 1
    contrast = relatedness_contrast(gain_ML.mean(axis=0), related_L, MARGIN)
    truth = population_contrast(design)
    name = "permutation, mean over models" if several else "permutation, accuracy"
    yield ("rejects", name), contrast.permutation.p <= 0.05
    yield ("rejects", "Welch, accuracy"), contrast.welch.p <= 0.05
    yield ("covers", "contrast, permutation"), not contrast.permutation.interval_95.excludes(truth)
    yield ("covers", "contrast, Welch"), not contrast.welch.interval.excludes(truth)
    n = design.items
    before, after = (
        np.log((accuracy * n + 0.5) / (n - accuracy * n + 0.5))
        for accuracy in (study.base.mean(axis=2), study.tuned.mean(axis=3))
    )
    log_odds_L = (after.mean(axis=1) - before).mean(axis=0)
    p = relatedness_contrast(log_odds_L, related_L, None).permutation.p
    yield ("rejects", "permutation, log-odds"), p <= 0.05
    if several:
        p_M = [relatedness_contrast(gain_L, related_L, None).permutation.p for gain_L in gain_ML]
        yield ("rejects", "permutation, one model"), p_M[0] <= 0.05
        yield ("rejects", "permutation, any model (Holm)"), holm(p_M).min() <= 0.05


class Shares(NamedTuple):
    """Contributions of passages to each language's scores and items, [P, L], of one model."""

    base: FloatArray
    gain: FloatArray
    weight: FloatArray
    cot_gain: FloatArray

    @property
    def mean_over_languages(self) -> "Shares":
        """The contributions to the means over languages, [P, 1]."""
        return Shares(*(share_PL.mean(axis=1, keepdims=True) for share_PL in self))


def _adjusted(
    study: Study, gain_L: FloatArray, related_L: BoolArray, rng: np.random.Generator
) -> Quantities:
    """The contrast at equal baseline, with and without the correction for shared noise."""
    shares = shares_by_model(study)
    base_PL, gain_PL, weight_PL = (
        np.mean([share[k] for share in shares], axis=0) for k in range(3)
    )
    noise = shared_noise(base_PL, gain_PL, weight_PL)
    base_L = base_PL.sum(axis=0)

    def rejects(covariate_L: FloatArray) -> bool:
        contrast = freedman_lane(
            gain_L, related_L, {"x": covariate_L}, draws=DRAWS, with_interval=False
        )
        return contrast.p <= 0.05

    yield ("rejects", "at equal baseline, noise not removed"), rejects(base_L)
    noise_free_L = rng.standard_normal(len(gain_L))
    yield ("rejects", "at equal noise-free covariate"), rejects(noise_free_L)
    try:
        y_L, x_L = without_shared_noise(gain_L, base_L, related_L[:, None].astype(float), *noise)
    except ComparisonError:
        yield ("share", "baselines too similar to adjust for"), 1.0
        return
    yield ("share", "baselines too similar to adjust for"), 0.0
    contrast = freedman_lane(y_L, related_L, {"x": x_L}, draws=DRAWS)
    yield ("rejects", "at equal baseline"), contrast.p <= 0.05
    yield ("covers", "contrast at equal baseline"), not contrast.interval.excludes(0.0)


def _slopes(design: Design, study: Study) -> Quantities:
    """C2 and C3, over languages within models and over models; cross-fitted and naive."""
    models = shares_by_model(study)
    levels = {"languages": (models, population_slopes(design))}
    if design.models > 1:
        means = zip(*(model.mean_over_languages for model in models), strict=True)
        over_models = Shares(*(np.hstack(share) for share in means))
        levels["models"] = ([over_models], population_slopes_of_models(design))
    for level, (strata, (baseline_slope, cot_slope)) in levels.items():
        xs = {
            f"C2 slope over {level}": ([s.base for s in strata], baseline_slope),
            f"C3 slope over {level}": ([s.cot_gain for s in strata], cot_slope),
        }
        for name, (x, true_slope) in xs.items():
            yield from _slope(name, strata, x, true_slope)
        if level == "languages" and design.models == 1:
            difference_L = np.mean([(s.gain - s.cot_gain).sum(axis=0) for s in strata], axis=0)
            interval = mean_test(difference_L).interval_95
            truth = _true_tuned_minus_cot(design)
            yield ("covers", "tuned minus CoT accuracy"), not interval.excludes(truth)


def _slope(
    name: str, strata: Sequence[Shares], x: Sequence[FloatArray], true_slope: float
) -> Quantities:
    """One slope of the gain on `x`, [P, U] in each stratum."""
    # With y - true_slope * x for y the true slope is zero, so that p is calibrated too.
    y = [stratum.gain - true_slope * x_PU for stratum, x_PU in zip(strata, x, strict=True)]
    weights = [stratum.weight for stratum in strata]
    yx, xx, yy = (
        pool_scatters([scatter(*arrays) for arrays in zip(left, right, weights, strict=True)])
        for left, right in ((y, x), (x, x), (y, y))
    )
    test = slope_test(yx, xx, yy, draws=DRAWS)
    yield ("rejects", f"{name}, true slope zero"), test.p <= 0.05
    yield ("covers", name), not test.interval.excludes(0.0)
    yield ("share", f"{name}, unbounded"), bool(np.isinf(test.interval).all())
    if np.isfinite(test.slope):
        yield ("bias", f"{name}, cross-fitted"), test.slope
    yield ("bias", f"{name}, naive"), test.naive
    x_U, gain_U = (
        np.concatenate([_centred_totals(share_PU) for share_PU in shares])
        for shares in (x, [stratum.gain for stratum in strata])
    )
    fit = stats.linregress(x_U, gain_U)
    half = stats.t.ppf(0.975, len(x_U) - 1 - len(strata)) * fit.stderr
    yield ("covers", f"{name}, naive (least squares)"), abs(fit.slope - true_slope) <= half


def _centred_totals(share_PU: FloatArray) -> FloatArray:
    total_U: FloatArray = share_PU.sum(axis=0)
    centred_U: FloatArray = total_U - total_U.mean()
    return centred_U


@lru_cache
def _true_tuned_minus_cot(design: Design) -> float:
    """Expected tuned minus CoT accuracy over the languages of such studies."""
    many = {"related": design.related * 1000, "control": design.control * 1000}
    truth = simulate(replace(design, items=1, passages=1, **many), np.random.default_rng(3)).truth
    return float((truth.tuned - truth.cot).mean())


def shares_by_model(study: Study) -> list[Shares]:
    """The shares of passages of each model."""
    n_passages, n = study.passages[-1] + 1, len(study.passages)
    start_P = np.searchsorted(study.passages, np.arange(n_passages))

    def by_passage(values_LI: FloatArray) -> FloatArray:
        return np.add.reduceat(values_LI, start_P, axis=1).T / n

    return [
        Shares(
            base=by_passage(base),
            gain=by_passage(tuned.mean(axis=0) - base),
            weight=by_passage(np.ones_like(base)),
            cot_gain=by_passage(cot - base),
        )
        for base, tuned, cot in zip(study.base, study.tuned, study.cot, strict=True)
    ]


def _no_gain(design: Design, study: Study, rng: np.random.Generator) -> Quantities:
    """Tests of one language where no language gains."""
    after_MLI = study.tuned.mean(axis=1)
    gains = [
        paired_gain(
            study.base[:, language].mean(axis=0),
            after_MLI[:, language].mean(axis=0),
            study.passages,
        )
        for language in range(len(design.is_related))
    ]
    for gain in gains[:LANGUAGES_TESTED]:
        yield ("rejects", "one language, clustered t"), gain.t_p <= 0.05
        if np.isfinite(gain.mcnemar_p):
            yield ("rejects", "one language, McNemar"), gain.mcnemar_p <= 0.05
        yield ("rejects", "one language, reported p"), gain.p <= 0.05
    yield ("rejects", "any language (Holm)"), holm([gain.p for gain in gains]).min() <= 0.05


def _margin(design: Design, study: Study, rng: np.random.Generator) -> Quantities:
    """Equivalence claimed where the true contrast equals the margin."""
    contrast = relatedness_contrast(_mean_gain(study), design.is_related, MARGIN)
    within = contrast.permutation.interval_90.inside(MARGIN)
    yield ("equivalent at margin", "permutation (the verdict)"), within
    yield ("equivalent at margin", "two one-sided Welch tests"), (contrast.tost_p or 0) <= 0.05


def _power(design: Design, study: Study, rng: np.random.Generator) -> Quantities:
    """A true contrast of twice the margin: detection, and what the spread predicts."""
    contrast = relatedness_contrast(_mean_gain(study), design.is_related, MARGIN)
    yield ("power", "detected"), contrast.permutation.p <= 0.05
    yield ("power", "spread"), contrast.spread**2
    truth = population_contrast(design)
    for name, interval in (
        ("permutation", contrast.permutation.interval_95),
        ("Welch", contrast.welch.interval),
    ):
        yield ("covers", f"contrast of six points, {name}"), not interval.excludes(truth)
    yield ("power", "minimum detectable effect"), contrast.minimum_detectable_effect


def _mean_gain(study: Study) -> FloatArray:
    gain_L: FloatArray = (study.tuned.mean(axis=1) - study.base).mean(axis=(0, 2))
    return gain_L


def _item_level_p(change_LI: FloatArray, related_L: BoolArray) -> float:
    """p of a z test that treats every item of every language as a replicate."""
    related, control = change_LI[related_L].ravel(), change_LI[~related_L].ravel()
    error = np.sqrt(related.var() / related.size + control.var() / control.size)
    return float(2 * stats.norm.sf(abs(related.mean() - control.mean()) / error))


def summarise(
    by_quantity: Mapping[tuple[str, str, str], Sequence[float]],
) -> Iterator[dict[str, object]]:
    """One row per quantity: value, Monte Carlo standard error, and whether it is in range."""
    for (design, kind, name), numbers in by_quantity.items():
        values = np.array(numbers)
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        value, error = float(values.mean()), float(values.std() / np.sqrt(len(values)))
        if kind == "bias":  # a ratio has no mean
            value = float(np.median(values))
            error = float(1.25 * stats.iqr(values) / 1.35 / np.sqrt(len(values)))
        if name == "spread":  # collected as squares
            value, error = np.sqrt(value), error / (2 * np.sqrt(value))
        low, high = TARGETS.get(kind, (-np.inf, np.inf))
        if "Holm" in name:  # at most the level, by construction
            low = 0.0
        yield _row(design, kind, name, (value, error), len(values), low <= value <= high)
    for design, setting in DESIGNS.items():
        if squares := by_quantity.get((design, "power", "spread")):
            spread = float(np.sqrt(np.mean(squares)))
            predicted = power(EFFECT, spread, setting.related, setting.control)
            yield _row(design, "power", "predicted", (predicted, 0.0), len(squares), True)


def _row(
    design: str, kind: str, name: str, estimate: tuple[float, float], n: int, in_range: bool
) -> dict[str, object]:
    value, error = estimate
    return {
        "design": design,
        "sound": design in SOUND,
        "kind": kind,
        "name": name,
        "value": value,
        "error": error,
        "n": n,
        "in_range": in_range,
    }


if __name__ == "__main__":
    main()
