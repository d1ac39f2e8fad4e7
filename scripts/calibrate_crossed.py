"""Rows of calibration.csv about crossed designs: rejection rates, coverage, equivalence, power.

`python -m scripts.calibrate` runs these studies too. Shapes are suffixes: S sources, T targets.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from isogloss.stats.crossed import DesignEffect, effect_in_design
from isogloss.stats.crossed_design import CrossedDesign, crossed_design
from isogloss.stats.crossed_power import CrossedSpread, crossed_power, pilot_crossed_spread
from isogloss.stats.permutation import permutation_test
from isogloss.types import BoolArray, FloatArray, Verdict
from scripts.crossed_simulation import (
    CrossedPopulation,
    CrossedStudy,
    crossed_kinship_for,
    population_effect,
    simulate_crossed,
)

MARGIN, LARGE = 0.03, 0.06
STUDIES_PER_TASK = 50
PILOTS = 5  # per task, from which the spread is estimated that `plan` would be given

POPULATIONS = {
    "4 sources, 4 relatives each": CrossedPopulation(relatives=(4,) * 4),
    "6 sources, 4 relatives each": CrossedPopulation(),
    "8 sources, 4 relatives each": CrossedPopulation(relatives=(4,) * 8),
    "6 sources, 3 relatives each": CrossedPopulation(relatives=(3,) * 6),
    "6 sources, 5 relatives each": CrossedPopulation(relatives=(5,) * 6),
    "6 sources, 3 to 5 relatives, sources evaluated": CrossedPopulation(
        relatives=(3, 5, 4, 3, 5, 4), sources_evaluated=True
    ),
    "families uncorrelated": CrossedPopulation(family_correlation=0.0),
    "family correlation 0.3": CrossedPopulation(family_correlation=0.3),
    "family correlation 0.8": CrossedPopulation(family_correlation=0.8),
    "adapters act on branches": CrossedPopulation(adapter_spread=0.25, adapter_correlation=0.8),
    "at the guess floor": CrossedPopulation(baseline=-2.5, gain=0.6),
    "unequal resources": CrossedPopulation(baseline_spread=1.0, strength_spread=0.4),
    "15% of cells missing": CrossedPopulation(missing=0.15),
    "effects differ between sources": CrossedPopulation(kinship_spread=0.2),
}
# Where the test is valid for many sources only.
ASYMPTOTIC = ("effects differ between sources",)
KINDS = {"null": 1.0, "three points": 0.5, "six points": 0.5}  # shares of the studies

Key = tuple[str, str]
T = TypeVar("T")
Quantities = Iterator[tuple[Key, float]]
TARGETS = {
    "crossed rejects": (0.03, 0.07),
    "crossed covers": (0.93, 0.97),
    "crossed equivalent": (0.0, 0.05),
}


class CrossedTask(NamedTuple):
    """Some studies of a population; `kind` is null, three points or six points."""

    population: str
    kind: str
    number: int
    studies: int

    @property
    def seed(self) -> tuple[int, int, int]:
        """A seed that does not depend on which other populations are simulated."""
        name = zlib.crc32(self.population.encode())
        return name, list(KINDS).index(self.kind), self.number


def run_crossed(
    studies: int, jobs: int, only: Sequence[str]
) -> dict[tuple[str, str, str], list[float]]:
    """Values of every quantity by (population, kind, name), one per study."""
    tasks = [
        CrossedTask(name, kind, number, min(STUDIES_PER_TASK, studies))
        for name in only
        for kind, share in KINDS.items()
        for number in range(max(1, round(studies * share / STUDIES_PER_TASK)))
    ]
    return gather(run_task, tasks, jobs, lambda task: task.population)


def gather(
    run: Callable[[T], Mapping[Key, Sequence[float]]],
    tasks: Sequence[T],
    jobs: int,
    design: Callable[[T], str],
) -> dict[tuple[str, str, str], list[float]]:
    """Values of all tasks by (design, kind, name), from several processes, with a progress bar."""
    by_quantity: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with ProcessPoolExecutor(jobs) as pool:
        progress = tqdm(pool.map(run, tasks), total=len(tasks), unit="task")
        for task, values in zip(tasks, progress, strict=True):
            for (kind, name), numbers in values.items():
                by_quantity[design(task), kind, name] += numbers
    return by_quantity


def run_task(task: CrossedTask) -> dict[Key, list[float]]:
    """Values of every quantity in some studies, one per study."""
    population = POPULATIONS[task.population]
    effect = {"null": 0.0, "three points": MARGIN, "six points": LARGE}[task.kind]
    if effect:
        population = crossed_kinship_for(population, effect)
    rng = np.random.default_rng(task.seed)
    values: dict[Key, list[float]] = defaultdict(list)
    for number in range(task.studies):
        study = simulate_crossed(population, rng)
        for key, value in _measured(population, study, effect):
            values[key].append(float(value))
        if task.kind == "null" and number < PILOTS:
            for key, value in _pilot(population, study):
                values[key].append(value)
    return dict(values)


def _measured(population: CrossedPopulation, study: CrossedStudy, effect: float) -> Quantities:
    crossed = _crossed_effect(population, study)
    found = {
        "crossed": crossed.p <= 0.05,
        "one source": one_source_p(population, study) <= 0.05,
        "double difference": double_difference_p(population, study) <= 0.05,
    }
    if effect == 0:
        for name, value in found.items():
            yield ("crossed rejects", name), value
        kinship = (Verdict.RELATED_GAIN_MORE, Verdict.RELATED_GAIN_LESS)
        yield ("crossed rejects", "crossed, verdict of kinship"), crossed.verdict in kinship
    else:
        for name, value in found.items():
            yield ("crossed power", f"{100 * effect:.0f} points, {name}"), value
    truth = population_effect(population) if effect else 0.0
    at = f"{100 * effect:.0f} points"
    yield ("crossed covers", f"{at}, matchings"), not crossed.interval_95.excludes(truth)
    yield ("crossed covers", f"{at}, clustered errors"), not crossed.robust.excludes(truth)
    if effect == MARGIN:
        yield ("crossed equivalent", "crossed"), crossed.verdict == Verdict.EQUIVALENT


def _pilot(population: CrossedPopulation, study: CrossedStudy) -> Quantities:
    """Variances that a pilot of this population would give to `plan`; not rows of their own."""
    spread = pilot_crossed_spread(
        study.gain,
        population.source_branch,
        population.target_branch,
        items=0.0,
        seeds=0.0,
        n_items=population.items,
        n_seeds=1,
    )
    yield ("pilot", "branches"), spread.branches**2
    yield ("pilot", "languages"), spread.languages**2


def _crossed_effect(population: CrossedPopulation, study: CrossedStudy) -> DesignEffect:
    observed_ST = np.isfinite(study.gain)
    design = _design(population.relatives, observed_ST.tobytes(), observed_ST.shape[1])
    return effect_in_design(design, study.gain, MARGIN)


@lru_cache(maxsize=1)
def _design(relatives: tuple[int, ...], observed: bytes, n_targets: int) -> CrossedDesign:
    """The crossed design of these observed cells, kept while they stay the same."""
    observed_ST: BoolArray = np.frombuffer(observed, bool).reshape(len(relatives), n_targets)
    evaluated = n_targets > sum(relatives)
    population = CrossedPopulation(relatives=relatives, sources_evaluated=evaluated)
    branches = [str(branch) for branch in population.source_branch]
    return crossed_design(population.kin.astype(np.float64), observed_ST, branches, {})


def one_source_p(population: CrossedPopulation, study: CrossedStudy) -> float:
    """p of the single-source contrast of the first source."""
    return _contrast_p(study.gain[0], population.kin[0])


def double_difference_p(population: CrossedPopulation, study: CrossedStudy) -> float:
    """p of the first source's contrast beyond that of the second source."""
    difference_T = study.gain[0] - study.gain[1]
    difference_T[population.kin[1]] = np.nan
    return _contrast_p(difference_T, population.kin[0])


def _contrast_p(gain_T: FloatArray, related_T: BoolArray) -> float:
    seen_T = np.isfinite(gain_T)
    return permutation_test(gain_T[seen_T], related_T[seen_T]).p


def predicted_power(
    population: str, effect: float, by_quantity: Mapping[tuple[str, str, str], Sequence[float]]
) -> float:
    """The power that `plan` predicts from the mean variances of the pilots."""
    setting = POPULATIONS[population]
    branches, languages = (
        np.sqrt(np.mean(by_quantity[population, "pilot", name]))
        for name in ("branches", "languages")
    )
    spread = CrossedSpread(float(branches), float(languages), seeds=0.0, items=0.0)
    sources, relatives = len(setting.relatives), round(np.mean(setting.relatives))
    return crossed_power(
        spread, sources, relatives, items=1, seeds=1, effect=effect, margin=MARGIN
    ).power


def summarise_crossed(
    by_quantity: Mapping[tuple[str, str, str], Sequence[float]],
) -> Iterator[dict[str, object]]:
    """One row per quantity: value, Monte Carlo standard error, and whether it is in range."""
    for (population, kind, name), numbers in by_quantity.items():
        if kind != "pilot":
            value, error = float(np.mean(numbers)), float(np.std(numbers) / np.sqrt(len(numbers)))
            yield _row(population, kind, name, (value, error), len(numbers))
    for population in dict.fromkeys(key[0] for key in by_quantity):
        for effect in (MARGIN, LARGE):
            predicted = predicted_power(population, effect, by_quantity)
            n = len(by_quantity[population, "pilot", "branches"])
            name = f"{100 * effect:.0f} points, predicted"
            yield _row(population, "crossed power", name, (predicted, 0.0), n)


def _row(
    population: str, kind: str, name: str, estimate: tuple[float, float], n: int
) -> dict[str, object]:
    value, error = estimate
    low, high = TARGETS.get(kind, (-np.inf, np.inf))
    if "verdict" in name:  # what is equivalent is not counted
        low = 0.0
    return {
        "design": population,
        "sound": population not in ASYMPTOTIC,
        "kind": kind,
        "name": name,
        "value": value,
        "error": error,
        "n": n,
        "in_range": low <= value <= high,
    }
